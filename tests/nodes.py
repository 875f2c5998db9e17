"""Nodes of Ray on this machine."""

from typing import Any

from ray.cluster_utils import Cluster


def join(cluster: Cluster, **options: Any):
    """Start a node: Ray gives up after 30 s by itself, which a busy machine may need longer than."""
    for left in reversed(range(4)):
        try:
            return cluster.add_node(**options)
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError("unreachable")

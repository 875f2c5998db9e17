"""Ray for one campaign: a cluster that is there, or a local one for its time."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from nearedge.config import CampaignConfig


@contextmanager
def ray_running(config: CampaignConfig) -> Iterator[None]:
    """Connect to Ray, or start it on this machine; disconnects (and stops what it started) at the end.

    A local Ray is told to have room for all pools: on a machine with fewer cores they share them.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options = {
        "logging_level": logging.WARNING,
        "log_to_driver": False,
        "namespace": f"nearedge-{config.name}",
    }
    if config.ray.address is not None:
        ray.init(address=config.ray.address, **options)
    else:
        wanted = math.ceil(sum(pool.size * pool.cpus for pool in config.pools.values()))
        cpus = config.ray.num_cpus or max(os.cpu_count() or 1, wanted)
        # bound to loopback: a campaign on one machine has nothing to offer to the network
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1", **options
        )
    try:
        yield
    finally:
        ray.shutdown()

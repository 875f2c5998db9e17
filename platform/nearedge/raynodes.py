"""Whether all nodes of a cluster can do a campaign's work: same program, same run directory, servers for its state."""

import socket
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nearedge.config import CampaignConfig
from nearedge.room import Resources
from nearedge_db.errors import UserError, one_line

PATIENCE_S = 120.0
"""How long the nodes may take to answer: the first worker of a node imports Ray and unpacks the job's files."""


def amounts_of_nodes() -> list[Resources]:
    """What each living node of the cluster has in all, whoever uses it now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def check_nodes(config: CampaignConfig) -> None:
    """Check the cluster this process is connected to. Raises UserError; does nothing where all is on this machine."""
    others = [
        node for node in ray.nodes() if node["Alive"] and node["NodeManagerHostname"] != socket.gethostname()
    ]
    if others:
        _check_servers(config, len(others))
        _check_run_dir(config.run_dir.absolute(), others)


def _check_servers(config: CampaignConfig, count: int) -> None:
    """SQLite's write-ahead log needs shared memory: on a shared file system two machines would damage the file."""
    for key, url in (("database", config.database), ("mlflow", config.mlflow)):
        if url is None or urlsplit(url).scheme.partition("+")[0] in ("sqlite", "file", ""):
            raise UserError(
                f"the Ray cluster has nodes on {count} other machines, and `{key}` is a local file",
                got=url or "none",
                fix=f"set `{key}`, or NEAREDGE_{key.upper()}, to a server that all nodes reach",
            )


def _check_run_dir(run_dir: Path, nodes: list[dict[str, Any]]) -> None:
    """Trainers write models there, and the driver reads them."""
    mark = run_dir / f".seen-{uuid.uuid4().hex[:12]}"
    mark.touch()
    try:
        remote = ray.remote(num_cpus=0, max_retries=0)(sees)
        asked = {
            node["NodeManagerHostname"]: remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(mark))
            for node in nodes
        }
        for name, answer in asked.items():
            _check_answer(name, answer, run_dir)
    finally:
        mark.unlink()


def _check_answer(name: str, answer: Any, run_dir: Path) -> None:
    try:
        seen = ray.get(answer, timeout=PATIENCE_S)
    except GetTimeoutError:
        return  # a node that is only slow, or has just left: the campaign survives that
    except RayError as error:
        raise UserError(
            f"node {name} of the Ray cluster cannot do the campaign's work",
            got=one_line(error),
            fix="install the same NearEdge on every node, or submit it with the job",
        ) from None
    if not seen:
        raise UserError(
            f"node {name} of the Ray cluster does not see the run directory",
            got=run_dir,
            fix="put it on a file system that all nodes share, with --dir or NEAREDGE_RUNS",
        )


def sees(path: str) -> bool:
    """Whether the file is there, on the node where this runs."""
    return Path(path).is_file()

"""What actors ask of Ray's nodes, and whether there is a node that has it."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nearedge.config import CampaignConfig
from nearedge.pools import PoolConfig
from nearedge.site import ray_address
from nearedge_db.errors import UserError

GIB = 1024**3

Resources = Mapping[str, float]
"""Amounts by Ray's names: ``CPU``, ``GPU``, ``memory`` in bytes, and custom ones."""


def asked(pool: PoolConfig) -> dict[str, float]:
    """What one actor of the pool reserves; what it does not reserve is left out."""
    amounts = {"CPU": pool.cpus, "GPU": pool.gpus, "memory": pool.memory_gib * GIB, **pool.resources}
    return {name: amount for name, amount in amounts.items() if amount > 0}


def actor_options(pool: PoolConfig) -> dict[str, float | dict[str, float]]:
    """The same in the words of ``ray.remote``, which reserves a whole CPU where nothing is said."""
    return {
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "memory": pool.memory_gib * GIB,
        "resources": dict(pool.resources),
    }


def custom_resources(config: CampaignConfig) -> dict[str, float]:
    """Custom resources that all actors of all pools reserve together."""
    total: dict[str, float] = defaultdict(float)
    for pool in config.pools.values():
        for name, amount in pool.resources.items():
            total[name] += pool.most * amount
    return dict(total)


def local_cpus(config: CampaignConfig) -> int:
    """CPUs that a local Ray is told to have: as set, else the machine's, or what the pools reserve if that is more."""
    if config.ray.num_cpus is not None:
        return config.ray.num_cpus
    reserved = math.ceil(sum(pool.size * pool.cpus for pool in config.pools.values()))
    return max(os.cpu_count() or 1, reserved)


def warning_about_cpus(config: CampaignConfig) -> str | None:
    """What to tell a user whose local Ray is to have more CPUs than the machine; None where it has them."""
    cpus, cores = local_cpus(config), os.cpu_count() or 1
    if ray_address(config.ray.address) is not None or cpus <= cores:
        return None
    if config.ray.num_cpus is not None:
        fix = "lower ray.num_cpus, or leave it out"
    else:
        fix = "lower their size or cpus, or set ray.address to a cluster that has them"
    asks = ", ".join(f"{name} {pool.size} × {pool.cpus:g}" for name, pool in config.pools.items())
    return (
        "warning: Ray is told of more CPUs than this machine has, so that actors share its cores; "
        f"got {cpus} for {cores} (pools: {asks}); {fix}"
    )


def holds(node: Resources, asks: Resources) -> bool:
    """Whether a node with these amounts has what is asked."""
    return all(node.get(name, 0.0) >= amount for name, amount in asks.items())


def check_node_sizes(config: CampaignConfig, nodes: Sequence[Resources], whose: str) -> None:
    """Refuse a pool of which no node could ever hold one actor: it would wait for ever.

    ``nodes`` are the total amounts of each node, ``whose`` says of what they are nodes. Raises UserError.
    """
    for name, pool in config.pools.items():
        asks = asked(pool)
        if any(holds(node, asks) for node in nodes):
            continue
        largest = max(nodes, key=lambda node: _nearness(node, asks), default={})
        has = {key: largest.get(key, 0.0) for key in asks}
        raise UserError(
            f"no node of {whose} can hold an actor of pools.{name}",
            got=f"it asks {told(asks)}; the largest node has {told(has)}",
            fix=f"lower what pools.{name} asks, or start Ray on a node that has it",
        )


def _nearness(node: Resources, asks: Resources) -> tuple[int, float]:
    """How much of what is asked a node has: the number of kinds that suffice, then the mean share."""
    shares = [min(node.get(name, 0.0) / amount, 1.0) for name, amount in asks.items()]
    return sum(share == 1.0 for share in shares), sum(shares)


def told(amounts: Resources) -> str:
    """The amounts as the settings name them: ``cpus 2, memory_gib 1.5``."""
    names = {"CPU": "cpus", "GPU": "gpus", "memory": "memory_gib"}
    return ", ".join(
        f"{names.get(name, name)} {amount / GIB if name == 'memory' else amount:.4g}"
        for name, amount in amounts.items()
    )

"""Ray for one campaign: a cluster that is there, or a local one for its time."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from nearedge.config import CampaignConfig
from nearedge_db.errors import UserError, one_line


@contextmanager
def ray_running(config: CampaignConfig) -> Iterator[None]:
    """Connect to Ray, or start it on this machine; disconnects (and stops what it started) at the end.

    Raises UserError when the cluster that was named cannot be used.

    A local Ray is told to have room for all pools: on a machine with fewer cores they share them.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options = {
        "logging_level": logging.WARNING,
        "log_to_driver": False,
        "namespace": f"nearedge-{config.name}",
    }
    # it would be told at every start that the token which Ray makes protects the cluster
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    if config.ray.address is not None:
        try:
            ray.init(address=config.ray.address, **options)
        except ConnectionError as error:
            raise UserError(
                "the Ray cluster of ray.address cannot be used",
                got=f"{config.ray.address} ({one_line(error)})",
                fix="start it with `ray start --head`, mend the address, or leave ray.address out",
            ) from error
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

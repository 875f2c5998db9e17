"""Waiting for the actors of a pool."""

import time

from nearedge_agents.pool import Pool


def wait_for(pool: Pool, free: int) -> Pool:
    """Tend the pool until so many actors are free."""
    deadline = time.monotonic() + 120
    while pool.free != free:
        assert time.monotonic() < deadline, f"{pool.free} of {free} are free, {pool.starting} are starting"
        pool.tend()
        time.sleep(0.05)
    return pool

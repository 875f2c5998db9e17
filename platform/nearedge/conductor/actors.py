"""The pools of a campaign: which actors, with what."""

import os
from pathlib import Path

from nearedge.conductor.context import Context
from nearedge.pools import PoolName
from nearedge.room import actor_options
from nearedge_agents.agent import Agent
from nearedge_agents.generator import Generator
from nearedge_agents.labeler import Labeler
from nearedge_agents.logs import FOLDER as LOGS
from nearedge_agents.pool import Pool
from nearedge_agents.scorer import Scorer
from nearedge_agents.trainer import Trainer
from nearedge_services.oracles.base import is_limited
from nearedge_services.oracles.cost_model import LONGER
from nearedge_services.oracles.leftovers import WORK_VARIABLE

BACKSTOP = 1.2 * LONGER
"""A labeler keeps the time limit itself, longer after a time-out, as far as it can end what it runs; one that does
not is killed after so many times the limit."""


def pool_of(name: PoolName, context: Context, tracking_uri: str) -> Pool:
    """The pool of that name, as the settings ask for it; its actors are not started yet."""
    config = context.config
    settings = config.pools[name]
    work = Path(os.environ.get(WORK_VARIABLE) or config.run_dir / "work")
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", WORK_VARIABLE: str(work.absolute())}
    options = {**actor_options(settings), "runtime_env": {"env_vars": environment}}
    url = context.database.url
    confirm = None if config.confirm is None else (config.confirm.name, dict(config.confirm.settings))
    oracle = (url, config.oracle.name, dict(config.oracle.settings))
    oracles = [one for one in (context.oracle, context.confirming) if one is not None]
    hashes = [one.settings_hash for one in oracles]
    made_of: dict[PoolName, tuple[type[Agent], tuple]] = {
        "generator": (Generator, ()),
        "scorer": (Scorer, ()),
        "labeler": (Labeler, (*oracle, settings.task_minutes, confirm, hashes)),
        "trainer": (Trainer, (url, tracking_uri, config.name, config.run_dir.absolute())),
    }
    actor_class, args = made_of[name]
    limit_s = None if settings.task_minutes is None else 60.0 * settings.task_minutes
    if limit_s is not None and name == "labeler" and any(is_limited(one) for one in oracles):
        limit_s *= BACKSTOP
    return Pool(
        name,
        actor_class,
        settings.size,
        options,
        args,
        limit_s,
        config.name,
        config.run_dir.absolute() / LOGS,
    )

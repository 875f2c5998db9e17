"""What every Ray actor of a campaign shares: one entry point that measures the work it does."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from nearedge_agents.logs import TASK, Source, attach
from nearedge_services.oracles.external import sweep_all

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one piece of work returned, and what it cost the process that did it."""

    value: Any
    seconds: float
    cpu_seconds: float
    leaves: bool = False
    """Whether the process is to do no more: another, perhaps on another node, takes its place."""


@contextmanager
def _in_a_folder_that_lasts() -> Iterator[None]:
    """Be in the root folder meanwhile, then in the working directory again, by its name, unless that is gone.

    MKL ends the process that first uses it where the working directory has been removed. That happens to jobs where
    several nodes of Ray run on one machine: they share the folder of the job, and each of them unpacks it anew.
    """
    try:
        place = str(Path.cwd())
    except FileNotFoundError:
        place = os.environ.get("PWD", os.sep)  # Ray's workers come here by `cd`, which sets it
    os.chdir(os.sep)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.chdir(place)


class Agent:
    """Base of the actors: ``perform("method", …)`` calls a method and measures it.

    Numerical libraries get one thread, so that results do not depend on the machine's number of cores
    and several actors share it fairly. What processes that were killed here have left in temporary folders is removed:
    a new actor takes the place of a killed one, which is when.
    """

    leaves: bool = False
    """Set by a method after which this process is to do no more."""

    def __init__(self) -> None:
        with _in_a_folder_that_lasts():
            import torch

            torch.set_num_threads(1)
        sweep_all()

    def begin(self, campaign: str, pool: str, logs: Path | None) -> None:
        """Say that the process is up; from now on it appends what it does to the logs in that folder."""
        if logs is not None:
            attach(logs, Source(campaign, pool, ray.get_runtime_context().get_actor_id()))

    def perform(self, method: str, *args: Any) -> Outcome:
        """Call ``method`` with ``args``; an exception of the method reaches the caller."""
        wall, cpu = time.monotonic(), time.process_time()
        is_task = method == "work"
        TASK.set(args[0] if is_task else None)
        try:
            value = getattr(self, method)(*args)
        except Exception:
            logger.exception("%s failed", method)
            raise
        outcome = Outcome(value, time.monotonic() - wall, time.process_time() - cpu, self.leaves)
        state = {"state": value.state, "problem": value.error} if is_task else {}
        seconds = {"seconds": round(outcome.seconds, 4), "cpu_seconds": round(outcome.cpu_seconds, 4)}
        logger.info("%s done", method, extra={"data": {**state, **seconds}})
        return outcome

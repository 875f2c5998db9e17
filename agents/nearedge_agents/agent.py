"""What every Ray actor of a campaign shares: one entry point that measures the work it does."""

import time
from dataclasses import dataclass
from typing import Any

from nearedge_services.oracles.external import sweep_all


@dataclass(frozen=True)
class Outcome:
    """What one piece of work returned, and what it cost the process that did it."""

    value: Any
    seconds: float
    cpu_seconds: float


class Agent:
    """Base of the actors: ``perform("method", …)`` calls a method and measures it.

    Numerical libraries get one thread, so that results do not depend on the machine's number of cores
    and several actors share it fairly. What processes that were killed here have left in temporary folders is removed:
    Ray starts a killed actor again, which is when.
    """

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        sweep_all()

    def perform(self, method: str, *args: Any) -> Outcome:
        """Call ``method`` with ``args``; an exception of the method reaches the caller."""
        wall, cpu = time.monotonic(), time.process_time()
        value = getattr(self, method)(*args)
        return Outcome(value, time.monotonic() - wall, time.process_time() - cpu)

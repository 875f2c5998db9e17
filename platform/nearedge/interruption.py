"""What Ctrl-C and SIGTERM do to a campaign."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from rich.console import Console

GO_ON = "the same command goes on from here; nothing that was computed is lost"

TRAINING_S = 300.0
"""How long a campaign that was asked to stop waits for trainings under way; a label may make it wait longer."""

REPEAT_S = 1.0
"""Signals so soon after one are the same request: `timeout` sends SIGTERM to the process, then to its group."""


class Interruptible(Protocol):
    """What can be asked to finish labels and trainings in flight and stop."""

    interrupted: bool

    @property
    def labels_in_flight(self) -> int:
        """How many there are to be waited for."""
        ...


class Interruption:
    """While the attached campaign works the first signal finishes what is in flight, and the second leaves at once.

    Where nothing is attached there is nothing to finish: the first leaves at once, by KeyboardInterrupt.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._campaign: Interruptible | None = None
        self._last: dict[int, float] = {}

    @contextmanager
    def asks(self, campaign: Interruptible) -> Iterator[None]:
        """Attach a campaign for the time of the block."""
        self._campaign = campaign
        try:
            yield
        finally:
            self._campaign = None

    def handle(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        del frame
        now = time.monotonic()
        if now - self._last.get(number, float("-inf")) < REPEAT_S:
            return
        self._last[number] = now
        campaign = self._campaign
        if campaign is None or campaign.interrupted:
            raise KeyboardInterrupt
        campaign.interrupted = True
        self.console.print(
            f"\n{signal.Signals(number).name}: finishing labels in flight ({campaign.labels_in_flight}), "
            f"however long they take, and trainings for up to {TRAINING_S:.0f} s; "
            "once more to leave at once and give them up"
        )


@contextmanager
def interruptible(console: Console) -> Iterator[Interruption]:
    """Handle SIGINT and SIGTERM so until the block ends."""
    interruption = Interruption(console)
    before = {
        number: signal.signal(number, interruption.handle) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

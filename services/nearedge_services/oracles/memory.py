"""How much memory one try takes: of this process, and of the programs that it runs.

with metered() as meter:
    oracle.label(atoms)
meter.gib
"""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


class Meter:
    """The most memory since it was made, GiB.

    ``own`` is that of this process; where the system cannot count it anew (Linux can), since the process began.
    ``programs``: of the largest program, as often as programs ran side by side.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = self._most_running = 0
        self._largest = 0.0
        with contextlib.suppress(OSError):
            _RESET.write_text(_RESET_PEAK)

    @property
    def own(self) -> float:
        """Resident memory of this process, GiB."""
        return _peak_gib()

    @property
    def programs(self) -> float:
        """Resident memory of programs, GiB."""
        return self._largest * self._most_running

    @property
    def gib(self) -> float:
        """Of both together, GiB."""
        return self.own + self.programs

    @contextlib.contextmanager
    def program(self) -> Iterator[Callable[[float], None]]:
        """While a program runs; its memory, GiB, is told to what is yielded."""
        with self._lock:
            self._running += 1
            self._most_running = max(self._most_running, self._running)
        try:
            yield self._see
        finally:
            with self._lock:
                self._running -= 1

    def _see(self, gib: float) -> None:
        with self._lock:
            self._largest = max(self._largest, gib)


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextlib.contextmanager
def metered() -> Iterator[Meter]:
    """A meter of all that is done inside, in this thread and those that copy its context."""
    meter = Meter()
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


@contextlib.contextmanager
def program_running() -> Iterator[Callable[[float], None]]:
    """While a program runs: tell its memory, GiB, to what is yielded. Without a meter that is forgotten."""
    meter = _meter.get()
    if meter is None:
        yield lambda _: None
        return
    with meter.program() as see:
        yield see


def _peak_gib() -> float:
    if _STATUS.is_file():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) / 1024**2
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1024**3

"""Renew a lease from a thread while the work runs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from .ledger import Ledger, Task

_BEATS_PER_LEASE = 3


class KeepAlive:
    """The state of a lease that is being renewed; ``lost`` once somebody else may have it."""

    def __init__(self, renew: Callable[[], bool], seconds: float) -> None:
        """``renew`` makes the lease last ``seconds`` from now and returns whether it is still ours."""
        self._renew = renew
        self._seconds = seconds
        self._lost = threading.Event()
        self._stop = threading.Event()
        self.last_error: str | None = None

    @property
    def lost(self) -> bool:
        """Whether the lease is gone: the result would be refused, so the work can stop."""
        return self._lost.is_set()

    def stop(self) -> None:
        """Renew no more."""
        self._stop.set()

    def beat_until_stopped(self) -> None:
        """Renew three times a lease; a database that does not answer costs the lease only at its end."""
        last_renewal = time.monotonic()
        while not self._stop.wait(self._seconds / _BEATS_PER_LEASE):
            asked = time.monotonic()
            try:
                held = self._renew()
            except DBAPIError as error:
                self.last_error = str(error)
                held = time.monotonic() - last_renewal < self._seconds
            else:
                last_renewal = asked
            if not held:
                self._lost.set()
                return


@contextmanager
def keep_alive(ledger: Ledger, task: Task, seconds: float) -> Iterator[KeepAlive]:
    """Renew the lease of ``task`` to ``seconds`` in a thread until the block ends.

    Yields an object whose ``lost`` turns true when the lease is gone.
    """
    with renewing(
        lambda: ledger.heartbeat(task.id, task.owner or "", seconds), seconds, f"lease-{task.id}"
    ) as state:
        yield state


@contextmanager
def renewing(renew: Callable[[], bool], seconds: float, name: str) -> Iterator[KeepAlive]:
    """Call ``renew`` three times in ``seconds`` from a thread called ``name`` until the block ends."""
    state = KeepAlive(renew, seconds)
    thread = threading.Thread(target=state.beat_until_stopped, name=name, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop()
        thread.join()

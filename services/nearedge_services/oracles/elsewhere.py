"""Absorbers that are calculated elsewhere: by processes of a cluster, besides those that are calculated here.

Whoever calls an oracle says where, and the oracle need not know what a cluster is:

    with helped_by(cluster):
        oracle.label(atoms)

Without it, or where the cluster has no room, everything is calculated here.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = dict[str, npt.NDArray[np.float64]]
"""What is kept of an absorber."""

Compute = Callable[[int], Row]
"""An absorber's calculation; it can be pickled, and raises OracleError."""


@dataclass(frozen=True)
class Ended:
    """An absorber that was calculated elsewhere; without row and error, its process was lost on the way."""

    absorber: int
    row: Row | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Wish:
    """What helpers are for.

    Attributes:
        compute: the calculation.
        workers: absorbers at a time that the caller calculates itself: a helper takes as much room as one of these.
        most: helpers at a time; None: as many as there is room for.
        memory_gib: memory that one program may take, GiB; None: not said.
    """

    compute: Compute
    workers: int = 1
    most: int | None = None
    memory_gib: float | None = None


class Helpers(Protocol):
    """Processes that calculate absorbers of one label. None of the methods waits for room."""

    def offer(self, waiting: int) -> int:
        """How many of so many waiting absorbers could begin now; asks for further helpers where there is room."""
        ...

    def begin(self, absorber: int) -> None:
        """Give an absorber to a helper that has nothing to do."""
        ...

    def ended(self, wait_s: float) -> list[Ended]:
        """What has ended, and is not under way any more, waited for so long at most."""
        ...

    def close(self) -> None:
        """End all helpers, with everything that they have started."""
        ...


class Cluster(Protocol):
    """Where helpers come from."""

    def helpers(self, wish: Wish) -> Helpers:
        """Those of one label; there is none before it is asked for."""
        ...


_cluster: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextlib.contextmanager
def helped_by(cluster: Cluster | None) -> Iterator[None]:
    """Let absorbers of the oracles that are called inside, in this thread, be calculated there too."""
    token = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(token)


@contextlib.contextmanager
def helpers_for(wish: Wish) -> Iterator[Helpers]:
    """The helpers of the cluster that was named, or none; all have ended when the block is left."""
    cluster = _cluster.get()
    helpers = _Nobody() if cluster is None or wish.most == 0 else cluster.helpers(wish)
    try:
        yield helpers
    finally:
        helpers.close()


class _Nobody:
    """No helper at all."""

    def offer(self, waiting: int) -> int:
        del waiting
        return 0

    def begin(self, absorber: int) -> None:
        raise RuntimeError(f"nobody is there to calculate absorber {absorber}")

    def ended(self, wait_s: float) -> list[Ended]:
        del wait_s
        return []

    def close(self) -> None:
        pass

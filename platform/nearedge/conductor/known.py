"""Fingerprints of every structure that has a label or is getting one, and how far others are from them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BLOCK = 2048
"""Fingerprints of one array: growing copies none of those that are there."""


class Compared(Protocol):
    """Something that remembers how far it was from what was known when it was last compared."""

    fingerprint: Array
    nearest: float
    """Distance to the nearest of the first ``compared`` fingerprints."""
    compared: int


class Known:
    """Fingerprints in single precision: 400 bytes for each label are all that a driver keeps of it."""

    def __init__(self, fingerprints: Iterable[Array] = ()) -> None:
        self._blocks: list[npt.NDArray[np.float32]] = []
        self._squares: list[npt.NDArray[np.float32]] = []
        """Of their lengths, shape (BLOCK,) each."""
        self._size = 0
        for one in fingerprints:
            self.add(one)

    def __len__(self) -> int:
        return self._size

    def add(self, fingerprint: Array) -> None:
        """Know one more, shape (F,)."""
        if self._size == BLOCK * len(self._blocks):
            self._blocks.append(np.empty((BLOCK, len(fingerprint)), np.float32))
            self._squares.append(np.empty(BLOCK, np.float32))
        row = self._blocks[-1][self._size % BLOCK]
        row[:] = fingerprint
        self._squares[-1][self._size % BLOCK] = row @ row
        self._size += 1

    def nearest(self, fingerprints: npt.ArrayLike, since: int = 0) -> Array:
        """Distances of fingerprints (C, F) to the nearest known one after the first ``since``, shape (C,).

        Infinite where there is none.
        """
        wanted = np.asarray(fingerprints, np.float32)
        best = np.full(len(wanted), np.inf)
        for number, (block, squares) in enumerate(zip(self._blocks, self._squares, strict=True)):
            part = slice(max(since - number * BLOCK, 0), self._size - number * BLOCK)
            if len(block[part]) and len(wanted):
                best = np.minimum(best, _nearest(wanted, block[part], squares[part]))
        return best

    def update(self, waiting: Sequence[Compared]) -> Array:
        """Compare each with what has come since it was compared last; returns their ``nearest``, shape (C,)."""
        for since in {one.compared for one in waiting if one.compared < self._size}:
            behind = [one for one in waiting if one.compared == since]
            found = self.nearest(np.array([one.fingerprint for one in behind]), since)
            for one, distance in zip(behind, found, strict=True):
                one.nearest, one.compared = min(one.nearest, float(distance)), self._size
        return np.array([one.nearest for one in waiting])


def _nearest(
    wanted: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], squares: npt.NDArray[np.float32]
) -> Array:
    """Distances of (C, F) to the nearest of (R, F), whose lengths have these ``squares`` (R,).

    Which is nearest comes from products, which are fast and lose digits; how near it is does not.
    """
    place = np.argmin(squares - 2.0 * (wanted @ rows.T), axis=1)
    return np.linalg.norm(wanted.astype(float) - rows[place], axis=1)

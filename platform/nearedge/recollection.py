"""What is known of the past trials: the best, the latest, and those under way.

All of them are read for every suggestion. With thousands that takes longer than the batch is worth, and they would
fill the driver's memory. TPE compares the best tenth, 25 at most, with the others; of the others the latest tell as
much as all.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from nearedge.tpe import Trials

MOST = 320
"""Trials known before the others are forgotten."""
BEST, LATEST = 50, 150
"""Those that are kept then, besides the ones under way."""


class Recollection:
    """Trials in the order in which they became known, under the numbers that they have in the database."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` are those of the parameters."""
        self._names = list(names)
        self._numbers: list[int] = []
        self._rows = np.empty((0, 1 + len(names)))
        """Value and parameters; NaN where there is none."""

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def trials(self) -> Trials:
        """Those in memory."""
        rows = self._rows[: len(self)]
        columns = {name: rows[:, 1 + place] for place, name in enumerate(self._names)}
        return Trials(rows[:, 0], columns)

    def add(self, number: int, parameters: Mapping[str, float], value: float | None = None) -> None:
        """Learn of a trial with its value, or of one that runs."""
        if len(self) >= MOST:
            self._keep(_kept(self._rows[: len(self), 0]))
        if len(self) == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty((MOST, self._rows.shape[1]))])
        given = (np.nan if value is None else value, *(parameters.get(name, np.nan) for name in self._names))
        self._rows[len(self)] = given
        self._numbers.append(number)

    def finish(self, number: int, value: float | None) -> None:
        """End a trial that runs; others are left alone. One that came to nothing (None) is forgotten."""
        if number not in self.open_numbers():
            return
        place = self._numbers.index(number)
        if value is None:
            self._keep([other for other in range(len(self)) if other != place])
        else:
            self._rows[place, 0] = value

    def open_numbers(self) -> set[int]:
        """Numbers of the trials that run."""
        return {self._numbers[place] for place in np.flatnonzero(np.isnan(self._rows[: len(self), 0]))}

    def _keep(self, places: Sequence[int]) -> None:
        self._rows[: len(places)] = self._rows[list(places)]
        self._numbers = [self._numbers[place] for place in places]


def _kept(values: np.ndarray) -> list[int]:
    """Places of the best, the latest and the running ones (NaN) of values (T,), in their order."""
    runs = np.isnan(values)
    valued = np.flatnonzero(~runs)
    best = valued[np.argsort(values[valued], kind="stable")[:BEST]]
    return sorted({*best.tolist(), *valued[-LATEST:].tolist(), *np.flatnonzero(runs).tolist()})

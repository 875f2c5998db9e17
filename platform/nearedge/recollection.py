"""What the sampler knows of the past trials: the best, the latest, and those under way.

A sampler reads all trials it knows whenever it is asked. With thousands of them that takes longer than the batch is
worth, and they would fill the driver's memory. TPE compares the best tenth, 25 at most, with the others; of the
others the latest tell as much as all.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

MOST = 320
"""Trials known before the others are forgotten."""
BEST, LATEST = 50, 150
"""Those that are kept then, besides the ones under way."""


class Recollection:
    """A study in memory. Trials have the numbers of the study in the database outside, and others inside."""

    def __init__(self, sampler: BaseSampler, past: Sequence[FrozenTrial] = ()) -> None:
        self._sampler = sampler
        running = {trial.number: trial.number for trial in past if trial.state is TrialState.RUNNING}
        self._begin(past if len(past) <= MOST else _kept(past), running)

    def __len__(self) -> int:
        """Trials in memory."""
        return self._size

    def ask(
        self, distributions: dict[str, BaseDistribution], attributes: Mapping[str, Any], number: int
    ) -> FrozenTrial:
        """The sampler's next trial, which runs under this number outside."""
        self._make_room()
        trial = self._study.ask(distributions)
        self._inside[number] = trial.number
        frozen = create_trial(
            state=TrialState.RUNNING,
            params=trial.params,
            distributions=distributions,
            user_attrs=dict(attributes),
        )
        frozen.number, frozen.datetime_start = number, trial.datetime_start
        return frozen

    def add(self, trial: FrozenTrial) -> None:
        """Learn of a finished trial."""
        self._make_room()
        self._study.add_trial(trial)

    def finish(self, number: int, state: TrialState, value: float | None) -> None:
        """End a trial that runs; others are left alone."""
        inside = self._inside.pop(number, None)
        if inside is not None:
            self._study.tell(inside, value, state)

    def open_numbers(self) -> set[int]:
        """Numbers outside of the trials that run."""
        return set(self._inside)

    def _make_room(self) -> None:
        if self._size >= MOST:
            outside = {inside: number for number, inside in self._inside.items()}
            self._begin(_kept(self._study.get_trials(deepcopy=False)), outside)
        self._size += 1

    def _begin(self, trials: Sequence[FrozenTrial], running: Mapping[int, int]) -> None:
        """A new study with these trials; ``running``: their present number -> the one outside."""
        self._study = optuna.create_study(sampler=self._sampler, direction="minimize")
        self._inside: dict[int, int] = {}
        for place, trial in enumerate(trials):
            self._study.add_trial(trial)
            if trial.number in running:
                self._inside[running[trial.number]] = place
        self._size = len(trials)


def _kept(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best, the latest and the running ones, in their order."""
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = sorted(finished, key=lambda trial: trial.value or 0.0)[:BEST]
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    kept = {trial.number for trial in (*best, *finished[-LATEST:], *running)}
    return [trial for trial in trials if trial.number in kept]

"""Optuna chooses the generation settings: ask/tell, with its trials in the campaign's database."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from nearedge.chance import seed_for
from nearedge.config import CampaignConfig
from nearedge.recollection import Recollection
from nearedge.tpe import Suggestions
from nearedge.trials import TrialBook
from nearedge_db.database import Database
from nearedge_db.outages import patiently

PREDICTED = "predicted mean of a batch"
"""Source of a trial whose value no oracle has seen."""

SEARCHED = ("guidance_scale", "spectral_weight_ev")
"""Generation settings that Optuna chooses besides the density."""

_Result = TypeVar("_Result")

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Settings:
    """One point of the generation settings and the trial that stands for it."""

    trial_number: int
    density_g_cm3: float
    guidance_scale: float
    spectral_weight_ev: float


class Steering:
    """An Optuna study named like the campaign: minimises the spectral distance over the generation settings.

    Trials end in one of two ways: asked ones are told the mean predicted distance of their batch as soon as it is
    scored; every oracle label adds a trial of its own with the measured distance. The user attribute ``source`` tells
    which of the two a trial is, and of what. The starting structures enter as trials that have a density only, so the
    study knows from the beginning which densities are promising and nothing yet about guidance.

    Methods that write take the ``session`` of a transaction to write in; without one they make their own.
    """

    def __init__(self, config: CampaignConfig, url: str) -> None:
        self.ranges = {
            "density_g_cm3": config.material.density_g_cm3,
            "guidance_scale": config.generation.guidance_scale,
            "spectral_weight_ev": config.generation.spectral_weight_ev,
        }
        self._name, self._seed, self._database = config.name, config.seed, Database(url)
        self.read()

    def read(self) -> None:
        """Learn what is known from the database, and from nowhere else."""
        study = self.study
        past = _patiently(lambda: study.get_trials(deepcopy=False))
        with self._database.session() as session:
            self._book = TrialBook(session, self._name, self.ranges)
        # Told how far the study is, so that a continued campaign does not draw the same numbers again.
        self._suggestions = Suggestions(self.ranges, seed_for(self._seed, "steering", len(past)))
        self._known = Recollection(list(self.ranges))
        for trial in past:
            if trial.state is not TrialState.FAIL:
                # the ranges may have been moved since
                inside = {n: v for n, v in trial.params.items() if n in self.ranges and self._allows(n, v)}
                self._known.add(trial.number, inside, trial.value)
        self._measured = {hash(t.user_attrs["key"]) for t in past if "key" in t.user_attrs}
        """Eight bytes for each label, not the whole key."""

    def _allows(self, name: str, value: float) -> bool:
        low, high = self.ranges[name]
        return low <= value <= high

    @property
    def study(self) -> Study:
        """The whole study, as anybody finds it in the database."""
        url = self._database.url
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        return optuna.create_study(
            study_name=self._name,
            storage=RDBStorage(url, engine_kwargs=arguments),
            direction="minimize",
            load_if_exists=True,
        )

    def ask(self, session: Session | None = None) -> Settings:
        """The next settings to try."""
        parameters = self._suggestions.next(self._known.trials)
        with self._writing(session) as opened:
            number = self._book.add(opened, parameters, {"source": PREDICTED})
        self._known.add(number, parameters)
        return Settings(number, **parameters)

    def tell(self, trial_number: int, distance: float, session: Session | None = None) -> None:
        """Close an asked trial with the mean predicted distance (1/eV) of its batch; a closed one stays as it is.

        One that is not finite is no value: the trial is given up.
        """
        if math.isfinite(distance):
            self._finish(trial_number, distance, session)
        else:
            self.give_up(trial_number, session)

    def give_up(self, trial_number: int, session: Session | None = None) -> None:
        """Close an asked trial whose batch came to nothing."""
        self._finish(trial_number, None, session)

    def give_up_orphans(self, known: set[int]) -> None:
        """Close the open trials that are not among ``known``: nobody is going to use them any more."""
        for number in self._known.open_numbers() - known:
            self.give_up(number)

    def add_measured(
        self,
        key: str,
        parameters: dict[str, float],
        distance: float,
        source: str,
        session: Session | None = None,
    ) -> bool:
        """Add a trial measured by the oracle (1/eV) at some or all of the settings.

        ``key`` makes it idempotent. A point outside the searched ranges is left out: Optuna takes none; False then.
        """
        inside = all(
            self.ranges[name][0] <= value <= self.ranges[name][1] for name, value in parameters.items()
        )
        if not inside or hash(key) in self._measured:
            return inside
        with self._writing(session) as opened:
            number = self._book.add(opened, parameters, {"source": source, "key": key}, distance)
        self._known.add(number, parameters, distance)
        self._measured.add(hash(key))
        return True

    def _finish(self, trial_number: int, value: float | None, session: Session | None) -> None:
        with self._writing(session) as opened:
            self._book.finish(opened, trial_number, value)
        self._known.finish(trial_number, value)

    @contextmanager
    def _writing(self, session: Session | None) -> Iterator[Session]:
        if session is not None:
            yield session
            return
        with self._database.begin() as own:
            yield own


def _patiently(attempt: Callable[[], _Result]) -> _Result:
    """Do it when the database is there: Optuna wraps what the database says."""
    return patiently(attempt, (StorageInternalError, DBAPIError))

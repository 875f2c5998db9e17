"""Optuna chooses the generation settings: ask/tell, with its storage in the campaign's database."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import DBAPIError

from nearedge.chance import seed_for
from nearedge.config import CampaignConfig
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
    """

    def __init__(self, config: CampaignConfig, url: str) -> None:
        self.ranges = {
            "density_g_cm3": config.material.density_g_cm3,
            "guidance_scale": config.generation.guidance_scale,
            "spectral_weight_ev": config.generation.spectral_weight_ev,
        }
        self.distributions: dict[str, BaseDistribution] = {
            name: FloatDistribution(low, high) for name, (low, high) in self.ranges.items()
        }
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        self._keys: set[str] | None = None
        self.study = optuna.create_study(
            study_name=config.name,
            storage=RDBStorage(url, engine_kwargs=arguments),
            direction="minimize",
            load_if_exists=True,
        )
        # Told how far the study is, so that a continued campaign does not draw the same numbers again.
        seed = seed_for(config.seed, "steering", len(self.study.get_trials(deepcopy=False)))
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=8, constant_liar=True)

    def ask(self) -> Settings:
        """The next settings to try."""
        trial = _patiently(lambda: self.study.ask(self.distributions))
        _patiently(lambda: trial.set_user_attr("source", PREDICTED))
        return Settings(trial.number, **trial.params)

    def tell(self, trial_number: int, distance: float) -> None:
        """Close an asked trial with the mean predicted distance (1/eV) of its batch; a closed one stays as it is."""
        _patiently(lambda: self.study.tell(trial_number, distance, skip_if_finished=True))

    def give_up(self, trial_number: int) -> None:
        """Close an asked trial whose batch came to nothing."""
        _patiently(lambda: self.study.tell(trial_number, state=TrialState.FAIL, skip_if_finished=True))

    def give_up_orphans(self, known: set[int]) -> None:
        """Close the open trials that are not among ``known``: nobody is going to use them any more."""
        for trial in _patiently(lambda: self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))):
            if trial.number not in known:
                self.give_up(trial.number)

    def add_measured(self, key: str, parameters: dict[str, float], distance: float, source: str) -> bool:
        """Add a trial measured by the oracle (1/eV) at some or all of the settings.

        ``key`` makes it idempotent. A point outside the searched ranges is left out: Optuna takes none; False then.
        """
        inside = all(
            self.ranges[name][0] <= value <= self.ranges[name][1] for name, value in parameters.items()
        )
        if not inside or key in self._measured():
            return inside
        attributes = {"source": source, "key": key}
        trial = create_trial(
            params=parameters,
            distributions={name: self.distributions[name] for name in parameters},
            value=distance,
            user_attrs=attributes,
        )
        _patiently(lambda: self.study.add_trial(trial))
        self._measured().add(key)
        return True

    def _measured(self) -> set[str]:
        if self._keys is None:
            trials = _patiently(lambda: self.study.get_trials(deepcopy=False))
            self._keys = {t.user_attrs["key"] for t in trials if "key" in t.user_attrs}
        return self._keys


def _patiently(attempt: Callable[[], _Result]) -> _Result:
    """Do it when the database is there: Optuna wraps what the database says."""
    return patiently(attempt, (StorageInternalError, DBAPIError))

"""Optuna's trials in the campaign's database, written inside the caller's transactions.

Optuna's own storage takes several commits and 7 ms of processor time for each trial. Here a trial is four
statements of a transaction that is there anyway, so a label and what Optuna knows of it are stored together or not
at all. The rows are Optuna's own: ``optuna.load_study`` reads them, which a test holds.
"""

import json
from datetime import datetime
from typing import Any

from optuna.distributions import distribution_to_json
from optuna.storages._rdb.models import (  # Optuna has no public description of its tables
    StudyModel,
    TrialModel,
    TrialParamModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

_STUDIES: Any = StudyModel.__table__
_TRIALS: Any = TrialModel.__table__
_PARAMETERS: Any = TrialParamModel.__table__
_ATTRIBUTES: Any = TrialUserAttributeModel.__table__
_VALUES: Any = TrialValueModel.__table__

# made once: making a statement takes as long as executing it
_ADD = insert(_TRIALS).returning(_TRIALS.c.trial_id)
_ADD_PARAMETERS, _ADD_ATTRIBUTES, _ADD_VALUES = insert(_PARAMETERS), insert(_ATTRIBUTES), insert(_VALUES)
_RUNNING = select(_TRIALS.c.trial_id).where(
    _TRIALS.c.study_id == bindparam("study"),
    _TRIALS.c.number == bindparam("number"),
    _TRIALS.c.state == TrialState.RUNNING,
)
_FINISH = (
    update(_TRIALS)
    .where(_TRIALS.c.trial_id == bindparam("trial"))
    .values(
        state=bindparam("new_state", type_=_TRIALS.c.state.type),
        datetime_complete=bindparam("now", type_=_TRIALS.c.datetime_complete.type),
    )
)


class TrialBook:
    """The rows of one study. It must be there, and nobody else may be adding trials to it."""

    def __init__(self, session: Session, study_name: str) -> None:
        self.study_id = session.scalar(select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == study_name))
        query = select(func.count()).where(_TRIALS.c.study_id == self.study_id)
        self.next_number: int = session.scalar(query) or 0

    def add(self, session: Session, trial: FrozenTrial) -> int:
        """Enter a trial that runs, or one with its value; returns its number."""
        number = self.next_number
        row = {
            "number": number,
            "study_id": self.study_id,
            "state": trial.state,
            "datetime_start": trial.datetime_start,
            "datetime_complete": trial.datetime_complete,
        }
        trial_id = session.execute(_ADD, row).scalar_one()
        _insert(session, _ADD_PARAMETERS, [{"trial_id": trial_id, **p} for p in _parameters(trial)])
        attributes = [_attribute(trial_id, key, value) for key, value in trial.user_attrs.items()]
        _insert(session, _ADD_ATTRIBUTES, attributes)
        if trial.value is not None:
            _insert(session, _ADD_VALUES, [_value(trial_id, trial.value)])
        self.next_number += 1
        return number

    def finish(self, session: Session, number: int, state: TrialState, value: float | None) -> bool:
        """End a trial that runs; False, with nothing changed, where it has ended before."""
        trial_id = session.execute(_RUNNING, {"study": self.study_id, "number": number}).scalar()
        if trial_id is None:
            return False
        now = datetime.now()
        session.execute(_FINISH, {"trial": trial_id, "new_state": state, "now": now})
        if value is not None:
            _insert(session, _ADD_VALUES, [_value(trial_id, value)])
        return True


def _insert(session: Session, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(statement, rows)


def _parameters(trial: FrozenTrial) -> list[dict[str, Any]]:
    return [
        {
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(value),
            "distribution_json": distribution_to_json(trial.distributions[name]),
        }
        for name, value in trial.params.items()
    ]


def _attribute(trial_id: int | None, key: str, value: Any) -> dict[str, Any]:
    return {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _value(trial_id: int | None, value: float) -> dict[str, Any]:
    stored, kind = TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": 0, "value": stored, "value_type": kind}

"""Optuna's trials in the campaign's database, written inside the caller's transactions.

Optuna's own storage takes several commits and 7 ms of processor time for each trial. Here a trial is four
statements of a transaction that is there anyway, so a label and what Optuna knows of it are stored together or not
at all. The rows are Optuna's own: ``optuna.load_study`` reads them, which a test holds.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages._rdb.models import (  # Optuna has no public description of its tables
    StudyModel,
    TrialModel,
    TrialParamModel,
    TrialUserAttributeModel,
    TrialValueModel,
)
from optuna.trial import TrialState
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from nearedge_db.prepared import Prepared

_STUDIES: Any = StudyModel.__table__
_TRIALS: Any = TrialModel.__table__
_PARAMETERS: Any = TrialParamModel.__table__
_ATTRIBUTES: Any = TrialUserAttributeModel.__table__
_VALUES: Any = TrialValueModel.__table__

_ADD = Prepared(
    lambda dialect: insert(_TRIALS).returning(_TRIALS.c.trial_id),
    ["number", "study_id", "state", "datetime_start", "datetime_complete"],
)
_ADD_PARAMETERS = Prepared(
    lambda dialect: insert(_PARAMETERS), ["trial_id", "param_name", "param_value", "distribution_json"]
)
_ADD_ATTRIBUTES = Prepared(lambda dialect: insert(_ATTRIBUTES), ["trial_id", "key", "value_json"])
_ADD_VALUES = Prepared(lambda dialect: insert(_VALUES), ["trial_id", "objective", "value", "value_type"])
_KEY = select(_TRIALS.c.trial_id).where(
    _TRIALS.c.study_id == bindparam("study"), _TRIALS.c.number == bindparam("which")
)
_FINISH = Prepared(
    lambda dialect: (
        update(_TRIALS)
        .where(_TRIALS.c.trial_id == bindparam("key"), _TRIALS.c.state == TrialState.RUNNING)
        .values(
            state=bindparam("new_state", type_=_TRIALS.c.state.type),
            datetime_complete=bindparam("now", type_=_TRIALS.c.datetime_complete.type),
        )
        .returning(_TRIALS.c.trial_id)
    )
)


class TrialBook:
    """The rows of one study. It must be there, and nobody else may be adding trials to it."""

    def __init__(self, session: Session, study_name: str, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.study_id = session.scalar(select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == study_name))
        query = select(func.count()).where(_TRIALS.c.study_id == self.study_id)
        self.next_number: int = session.scalar(query) or 0
        self._running: dict[int, int] = {}
        """Number -> key of the trials that were entered here and run: the table is not indexed by the number."""
        self._ranges = {name: distribution_to_json(FloatDistribution(*ends)) for name, ends in ranges.items()}

    def add(
        self,
        session: Session,
        parameters: Mapping[str, float],
        attributes: Mapping[str, Any],
        value: float | None = None,
    ) -> int:
        """Enter a trial that runs, or one with its value; returns its number."""
        number, now = self.next_number, datetime.now()
        row = {
            "number": number,
            "study_id": self.study_id,
            "state": TrialState.RUNNING if value is None else TrialState.COMPLETE,
            "datetime_start": now,
            "datetime_complete": None if value is None else now,
        }
        trial_id = _ADD.one(session, row)[0]
        _ADD_PARAMETERS.many(session, [self._parameter(trial_id, *one) for one in parameters.items()])
        _ADD_ATTRIBUTES.many(session, [_attribute(trial_id, *one) for one in attributes.items()])
        if value is not None:
            _ADD_VALUES.many(session, [_value(trial_id, value)])
        else:
            self._running[number] = trial_id
        self.next_number += 1
        return number

    def finish(self, session: Session, number: int, value: float | None) -> bool:
        """End a trial that runs, as failed without a value; False, with nothing changed, where it has ended before."""
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        trial_id = self._running.pop(number, None)
        if trial_id is None:
            trial_id = session.scalar(_KEY, {"study": self.study_id, "which": number})
        if trial_id is None:
            return False
        if _FINISH.one(session, {"key": trial_id, "new_state": state, "now": datetime.now()}) is None:
            return False
        if value is not None:
            _ADD_VALUES.many(session, [_value(trial_id, value)])
        return True

    def _parameter(self, trial_id: int, name: str, value: float) -> dict[str, Any]:
        return {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": value,
            "distribution_json": self._ranges[name],
        }


def _attribute(trial_id: int, key: str, value: Any) -> dict[str, Any]:
    return {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}


def _value(trial_id: int, value: float) -> dict[str, Any]:
    stored, kind = TrialValueModel.value_to_stored_repr(value)
    return {"trial_id": trial_id, "objective": 0, "value": stored, "value_type": kind}

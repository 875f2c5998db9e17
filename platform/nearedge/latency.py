"""How soon a label is of use: from its end to the first candidate scored by a surrogate that learnt from it."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nearedge_db.schema import CampaignStructure, LabelRow, LabelUse, ModelRow, Prediction, TaskRow
from nearedge_db.states import LabelRole, ModelKind, TaskKind, TaskState


@dataclass(frozen=True)
class Latency:
    """Seconds over the labels of candidates that a surrogate in use has learnt from; None before there is one."""

    p50_s: float | None
    p95_s: float | None
    used: int
    """Labels that such a model has learnt from."""
    labels: int
    """Labels that are there to learn from: those held out are not."""

    @classmethod
    def of(cls, seconds: list[float], labels: int) -> "Latency":
        """Percentiles of the seconds of the labels in use."""
        if not seconds:
            return cls(None, None, 0, labels)
        p50_s, p95_s = np.percentile(seconds, [50, 95])
        return cls(float(p50_s), float(p95_s), len(seconds), labels)


def read_latency(session: Session, campaign_id: int) -> Latency:
    """Of all sessions of a campaign, pauses between them included."""
    finished = _finished(session, campaign_id)
    used = first_uses(finished, _trainings(session, campaign_id))
    seconds = [
        (use - end).total_seconds() for end, use in zip(finished, used, strict=True) if use is not None
    ]
    return Latency.of(seconds, len(finished))


def first_uses(finished: list[datetime], trainings: list[tuple[datetime, datetime]]) -> list[datetime | None]:
    """When each label was first of use.

    A training learns from every label that is there when it is submitted.

    Args:
        finished: ends of the labels.
        trainings: when each was submitted, in this order, and when its model first scored a candidate.
    """
    submitted = [at for at, _ in trainings]
    earliest: list[datetime] = []  # of this training and all later ones
    for _, use in reversed(trainings):
        earliest.append(min(use, earliest[-1]) if earliest else use)
    earliest.reverse()
    places = [bisect_left(submitted, end) for end in finished]
    return [earliest[place] if place < len(earliest) else None for place in places]


def _trainings(session: Session, campaign_id: int) -> list[tuple[datetime, datetime]]:
    """Trainings of the surrogates that have been used: when they were submitted, and their first use."""
    model_id = TaskRow.payload_json["model_id"].as_integer()
    query = (
        select(TaskRow.created_at, func.min(Prediction.created_at))
        .join(ModelRow, ModelRow.id == model_id)
        .join(Prediction, Prediction.surrogate_model_id == ModelRow.id)
        .where(
            TaskRow.campaign_id == campaign_id,
            TaskRow.kind == TaskKind.TRAIN.value,
            TaskRow.state == TaskState.DONE,
            ModelRow.kind == ModelKind.SURROGATE.value,
        )
        .group_by(TaskRow.id, TaskRow.created_at)
        .order_by(TaskRow.created_at)
    )
    return [(submitted, use) for submitted, use in session.execute(query)]


def _finished(session: Session, campaign_id: int) -> list[datetime]:
    """Ends of the labels of candidates that are learnt from; those of other campaigns count from their use."""
    query = (
        select(LabelRow.created_at, LabelUse.created_at, TaskRow.campaign_id)
        .join(LabelRow, LabelRow.id == LabelUse.label_id)
        .join(
            CampaignStructure,
            (CampaignStructure.structure_id == LabelRow.structure_id)
            & (CampaignStructure.campaign_id == LabelUse.campaign_id),
        )
        .outerjoin(TaskRow, TaskRow.id == LabelRow.task_id)
        .where(
            LabelUse.campaign_id == campaign_id,
            LabelUse.role.in_([LabelRole.BASELINE, LabelRole.GUIDED]),
            ~CampaignStructure.held_out,
        )
    )
    return [made if owner in (None, campaign_id) else used for made, used, owner in session.execute(query)]

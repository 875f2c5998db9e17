"""How far a campaign is, in numbers."""

from dataclasses import dataclass
from statistics import median

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nearedge_db.schema import LabelRow, LabelUse
from nearedge_db.states import LabelRole

_GENERATED = (LabelRole.BASELINE, LabelRole.GUIDED)


@dataclass(frozen=True)
class CampaignProgress:
    """Numbers of a campaign; distances in 1/eV, ``None`` where there is nothing to tell yet.

    Attributes:
        labels: labels in use, of every role.
        labels_by_role: the same, by role.
        best_distance: best of the generated structures (guided and baseline).
        best_seed_distance: best of the seeds.
        baseline_median: median of the unguided baseline.
        late_median: median of the last third of the guided labels.
        late_over_unguided: ``late_median / baseline_median``; below 1 the loop beats unguided generation.
        oracle_seconds: what the labels in use cost (also those found already in the database).
    """

    labels: int
    labels_by_role: dict[LabelRole, int]
    best_distance: float | None
    best_seed_distance: float | None
    baseline_median: float | None
    late_median: float | None
    late_over_unguided: float | None
    oracle_seconds: float


def campaign_progress(session: Session, campaign_id: int) -> CampaignProgress:
    """Progress of a campaign from its labels."""
    uses = session.execute(
        select(LabelUse.role, LabelUse.spectral_distance)
        .where(LabelUse.campaign_id == campaign_id)
        .order_by(LabelUse.sequence)
    ).all()
    distances = {role: [d for r, d in uses if r == role and d is not None] for role in LabelRole}
    baseline = _median(distances[LabelRole.BASELINE])
    late = _median(last_third(distances[LabelRole.GUIDED]))
    return CampaignProgress(
        labels=len(uses),
        labels_by_role={role: sum(r == role for r, _ in uses) for role in LabelRole},
        best_distance=min((d for role in _GENERATED for d in distances[role]), default=None),
        best_seed_distance=min(distances[LabelRole.SEED], default=None),
        baseline_median=baseline,
        late_median=late,
        late_over_unguided=late / baseline if late is not None and baseline else None,
        oracle_seconds=_oracle_seconds(session, campaign_id),
    )


def last_third(values: list[float]) -> list[float]:
    """The last third, rounded up, so that one value is its own last third."""
    return values[len(values) - -(-len(values) // 3) :]


def _median(values: list[float]) -> float | None:
    return float(median(values)) if values else None


def _oracle_seconds(session: Session, campaign_id: int) -> float:
    query = (
        select(func.sum(LabelRow.seconds))
        .join(LabelUse, LabelUse.label_id == LabelRow.id)
        .where(LabelUse.campaign_id == campaign_id)
    )
    return float(session.scalar(query) or 0.0)

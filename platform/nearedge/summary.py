"""A campaign in numbers, every one of them read from its database.

>>> summary = summarise(database, "quickstart")                      # doctest: +SKIP
>>> summary.late_over_unguided, summary.best_over_seed               # doctest: +SKIP
(0.41, 0.52)
"""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nearedge.config import StopConfig
from nearedge.confirmed import Confirmation, read_confirmation
from nearedge.costs import Cost, read_cost
from nearedge.driving import is_abandoned, shown_state
from nearedge.gate import first_word
from nearedge.inferred import Inferred, infer
from nearedge.labelled import (
    Labelled,
    Recovered,
    best_distance,
    late,
    median_distance,
    of_role,
    ratio,
    read_labelled,
    recover,
)
from nearedge.latency import Latency, read_latency
from nearedge_db import driver
from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.schema import Campaign, Candidate, Generation, ModelRow, Prediction, TaskRow
from nearedge_db.states import (
    CampaignState,
    CandidateState,
    LabelRole,
    ModelKind,
    TaskKind,
    TaskState,
)
from nearedge_db.store import (
    DRIVER,
    candidate_counts,
    count_unsent,
    find_campaign,
    list_models,
    pool_totals,
    totals_since_models,
)

HEADLINES = {
    ModelKind.PRIOR.value: "denoising_loss",
    ModelKind.SURROGATE.value: "cell_mean_rmse",
    ModelKind.POTENTIAL.value: "force_rmse_ev_per_a",
}
"""The held-out metric that decides promotion: the models' own ``HEADLINE``, without their imports."""


@dataclass(frozen=True)
class LabelCounts:
    """Labels in use by role, what was asked for, and what is on its way."""

    seed: int
    baseline: int
    guided: int
    budget: int
    baseline_budget: int
    in_flight: int
    """Label tasks that somebody is working on."""
    waiting: int
    """Label tasks that wait for their turn."""


@dataclass(frozen=True)
class PoolSummary:
    """Use of one pool over the whole run: all sessions of the driver together."""

    occupancy: float | None
    """Share of the actors' time in which they had work; None before any time was accounted."""
    occupancy_since_models: float | None
    """The same from when candidates could first be made and scored; None before that."""
    cpu_share: float | None
    """CPU seconds per second of an actor."""
    busy_seconds: float
    capacity_seconds: float
    tasks: int


@dataclass(frozen=True)
class ModelSummary:
    """One training; ``headline`` is the held-out metric that decides promotion (lower is better)."""

    kind: str
    sequence: int
    champion: bool
    headline_name: str
    headline: float | None
    metrics: dict[str, Any]
    n_train: int
    n_held_out: int
    registered_name: str | None
    registered_version: int | None
    mlflow_run_id: str | None
    first_use_seconds: float | None
    """From the end of the training to the first scoring (prior: first batch) with it; None before that."""


@dataclass(frozen=True)
class CampaignSummary:
    """State, progress, results and cost of a campaign. Distances in 1/eV; None where not known yet."""

    campaign: str
    state: CampaignState
    driver: str | None
    """Process that drives it and is alive, as far as one can know."""
    abandoned: bool
    """Whether its state says that it is being driven, and nobody drives it."""
    stop_reason: str | None
    labels: LabelCounts
    best_distance: float | None
    """Best guided structure."""
    best_seed_distance: float | None
    seed_median: float | None
    """Median of the starting structures."""
    best_unguided_distance: float | None
    guided_median: float | None
    late_median: float | None
    """Median of the last third (rounded up) of the guided labels."""
    unguided_median: float | None
    """Median of the baseline: structures sampled without guidance."""
    recovered: dict[str, Recovered]
    """What the best guided structures have in common: see :func:`nearedge.labelled.recover`."""
    inferred: Inferred
    """What the target's spectrum alone says of the same properties."""
    pools: dict[str, PoolSummary]
    latency: Latency
    """From a finished label to its first use."""
    cost: Cost
    models: tuple[ModelSummary, ...]
    generations: dict[str, int]
    """Batches by state."""
    candidates: dict[str, int]
    """Generated structures by state."""
    rejected: dict[str, int]
    """Rejected structures by the first word of the reason, the most frequent first."""
    started_at: datetime | None
    finished_at: datetime | None
    unsent_trainings: int = 0
    """Trainings that MLflow does not have yet."""
    confirmation: Confirmation | None = None
    """What the second oracle says of the best; None where the campaign has none."""

    @property
    def shown_state(self) -> str:
        """The state for people, which tells where the driver is gone."""
        return shown_state(self.state, self.abandoned)

    @property
    def late_over_unguided(self) -> float | None:
        """Median distance of the late guided labels over that of the unguided baseline."""
        return ratio(self.late_median, self.unguided_median)

    @property
    def best_over_seed(self) -> float | None:
        """Best guided distance over the best starting structure's."""
        return ratio(self.best_distance, self.best_seed_distance)

    def to_json(self) -> dict[str, Any]:
        """What ``nearedge status --json`` prints: plain numbers, texts, lists and mappings."""
        return {
            "campaign": self.campaign,
            "state": self.state.value,
            "driver": self.driver,
            "abandoned": self.abandoned,
            "stop_reason": self.stop_reason,
            "labels": asdict(self.labels),
            "best_distance": self.best_distance,
            "best_seed_distance": self.best_seed_distance,
            "seed_median": self.seed_median,
            "best_unguided_distance": self.best_unguided_distance,
            "guided_median": self.guided_median,
            "late_median": self.late_median,
            "unguided_median": self.unguided_median,
            "late_over_unguided": self.late_over_unguided,
            "best_over_seed": self.best_over_seed,
            "recovered": {name: asdict(found) for name, found in self.recovered.items()},
            "inferred": self.inferred.to_json(self.recovered),
            "pools": {name: pool.occupancy for name, pool in self.pools.items()},
            "pools_since_models": {name: pool.occupancy_since_models for name, pool in self.pools.items()},
            "cpu_share": {name: pool.cpu_share for name, pool in self.pools.items()},
            "label_to_first_use": asdict(self.latency),
            "cost": {
                **asdict(self.cost),
                "label_seconds": self.cost.label_seconds,
                "failed": self.cost.failed,
                "failed_by_kind": self.cost.failed_by_kind,
            },
            "models": [asdict(model) for model in self.models],
            "generations": self.generations,
            "candidates": self.candidates,
            "rejected": self.rejected,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "unsent_trainings": self.unsent_trainings,
            "confirm": None if self.confirmation is None else self.confirmation.to_json(),
        }


def summarise(database: Database, campaign_name: str, *, inferring: bool = True) -> CampaignSummary:
    """Read everything about a campaign. Raises UserError when the database has none of that name.

    Without ``inferring`` nothing is inferred from the target's spectrum, which takes longer than all the rest.
    """
    with database.session() as session:
        campaign = require_campaign(session, campaign_name)
        labelled = read_labelled(session, campaign_name)
        return summarise_labelled(session, campaign, labelled, database.now(session), inferring=inferring)


def summarise_labelled(
    session: Session, campaign: Campaign, labelled: list[Labelled], now: datetime, *, inferring: bool = True
) -> CampaignSummary:
    """The summary of a campaign whose labelled structures have been read already."""
    holder = driver.holder(campaign, now)
    seeds, baseline, guided = (
        of_role(labelled, role) for role in (LabelRole.SEED, LabelRole.BASELINE, LabelRole.GUIDED)
    )
    rejected = _rejected(session, campaign.id)
    return CampaignSummary(
        campaign=campaign.name,
        state=campaign.state,
        driver=None if holder is None else str(holder),
        abandoned=is_abandoned(campaign, holder),
        stop_reason=campaign.stop_reason,
        labels=_label_counts(session, campaign, labelled),
        best_distance=best_distance(guided),
        best_seed_distance=best_distance(seeds),
        seed_median=median_distance(seeds),
        best_unguided_distance=best_distance(baseline),
        guided_median=median_distance(guided),
        late_median=median_distance(late(guided)),
        unguided_median=median_distance(baseline),
        recovered=recover(guided),
        inferred=infer(session, campaign, labelled)
        if inferring
        else Inferred(refusal="it was not asked for"),
        pools=_pools(session, campaign.id),
        latency=read_latency(session, campaign.id),
        cost=read_cost(session, campaign),
        models=_models(session, campaign.id),
        generations=_generations(session, campaign.id),
        candidates={state.value: count for state, count in candidate_counts(session, campaign.id).items()},
        rejected=rejected,
        started_at=campaign.started_at,
        finished_at=campaign.finished_at,
        unsent_trainings=count_unsent(session, campaign.id),
        confirmation=read_confirmation(session, campaign),
    )


def require_campaign(session: Session, name: str) -> Campaign:
    """The campaign of that name. Raises UserError that names those there are."""
    campaign = find_campaign(session, name)
    if campaign is None:
        known = ", ".join(session.scalars(select(Campaign.name).order_by(Campaign.name))) or "none"
        raise UserError(
            f"no campaign named {name!r} in this database", got=f"campaigns: {known}", fix="check the name"
        )
    return campaign


def campaign_names(database: Database) -> list[str]:
    """Names of all campaigns in a database, the oldest first."""
    with database.session() as session:
        return list(session.scalars(select(Campaign.name).order_by(Campaign.id)))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _label_counts(session: Session, campaign: Campaign, labelled: list[Labelled]) -> LabelCounts:
    stop = StopConfig.model_validate(campaign.config_json.get("stop") or {})
    roles = Counter(one.role for one in labelled)
    query = (
        select(TaskRow.state, func.count().label("tasks"))
        .where(TaskRow.campaign_id == campaign.id, TaskRow.kind == TaskKind.LABEL.value)
        .group_by(TaskRow.state)
    )
    tasks = {row.state: row.tasks for row in session.execute(query)}
    return LabelCounts(
        seed=roles[LabelRole.SEED.value],
        baseline=roles[LabelRole.BASELINE.value],
        guided=roles[LabelRole.GUIDED.value],
        budget=stop.labels,
        baseline_budget=stop.baseline,
        in_flight=tasks.get(TaskState.LEASED, 0),
        waiting=tasks.get(TaskState.PENDING, 0) + tasks.get(TaskState.RETRY, 0),
    )


def _pools(session: Session, campaign_id: int) -> dict[str, PoolSummary]:
    late = totals_since_models(session, campaign_id)
    return {
        name: PoolSummary(
            occupancy=ratio(total.busy_seconds, total.capacity_seconds),
            occupancy_since_models=ratio(late[name].busy_seconds, late[name].capacity_seconds)
            if name in late
            else None,
            cpu_share=ratio(total.cpu_seconds, total.capacity_seconds),
            busy_seconds=total.busy_seconds,
            capacity_seconds=total.capacity_seconds,
            tasks=total.tasks,
        )
        for name, total in pool_totals(session, campaign_id).items()
        if name != DRIVER
    }


def _models(session: Session, campaign_id: int) -> tuple[ModelSummary, ...]:
    first_use = _first_uses(session, campaign_id)
    summaries = [_model(row, first_use.get((row.kind, row.id))) for row in list_models(session, campaign_id)]
    return tuple(sorted(summaries, key=lambda model: (model.kind, model.sequence)))


def _model(row: ModelRow, first_use: datetime | None) -> ModelSummary:
    headline_name = HEADLINES.get(row.kind, "")
    headline = row.metrics_json.get(headline_name)
    return ModelSummary(
        kind=row.kind,
        sequence=row.sequence,
        champion=row.champion,
        headline_name=headline_name,
        headline=float(headline) if isinstance(headline, int | float) else None,
        metrics=row.metrics_json,
        n_train=row.n_train,
        n_held_out=row.n_held_out,
        registered_name=row.registered_name,
        registered_version=row.registered_version,
        mlflow_run_id=row.mlflow_run_id,
        first_use_seconds=None if first_use is None else (first_use - row.created_at).total_seconds(),
    )


def _first_uses(session: Session, campaign_id: int) -> dict[tuple[str, int], datetime]:
    """(kind, model) -> when a candidate was first scored, or a batch first made, with it."""
    columns: dict[ModelKind, tuple[Any, Any]] = {
        ModelKind.PRIOR: (Generation.prior_model_id, Generation.created_at),
        ModelKind.SURROGATE: (Prediction.surrogate_model_id, Prediction.created_at),
        ModelKind.POTENTIAL: (Prediction.potential_model_id, Prediction.created_at),
    }
    uses: dict[tuple[str, int], datetime] = {}
    for kind, (model_id, at) in columns.items():
        query = (
            select(model_id, func.min(at))
            .join(ModelRow, ModelRow.id == model_id)
            .where(ModelRow.campaign_id == campaign_id)
            .group_by(model_id)
        )
        uses.update({(kind.value, number): moment for number, moment in session.execute(query)})
    return uses


def _generations(session: Session, campaign_id: int) -> dict[str, int]:
    query = (
        select(Generation.state, func.count())
        .where(Generation.campaign_id == campaign_id)
        .group_by(Generation.state)
    )
    return {state.value: count for state, count in session.execute(query)}


def _rejected(session: Session, campaign_id: int) -> dict[str, int]:
    query = select(Candidate.reason).where(
        Candidate.campaign_id == campaign_id, Candidate.state == CandidateState.REJECTED
    )
    return dict(Counter(first_word(reason) for reason in session.scalars(query)).most_common())

"""What a campaign cost: labels, starting structures, trainings, failures and time. All in seconds."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from statistics import median_low

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nearedge_db.schema import (
    AttemptRow,
    Campaign,
    LabelRow,
    LabelUse,
    OracleSettings,
    PoolUsage,
    Structure,
    TaskRow,
)
from nearedge_db.states import LabelRole, TaskKind, TaskState
from nearedge_db.store import DRIVER
from nearedge_db.types import utc_now
from nearedge_services.oracles.cost_model import learnt
from nearedge_services.oracles.leftovers import OUTPUT_IN

MAX_REASON_CHARACTERS = 160


@dataclass(frozen=True)
class LabelCost:
    """Labels of one role; ``reused`` ones were another campaign's, and their seconds are not counted."""

    count: int
    seconds: float
    reused: int


@dataclass(frozen=True)
class Work:
    """Finished tasks of one kind and the seconds that all tasks of the kind took."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Tasks that were given up for the same reason."""

    kind: str
    reason: str
    count: int
    failure: str
    """Kind of the last failure, as ``bad geometry``; ``unknown`` for tasks from before attempts were recorded."""


@dataclass(frozen=True)
class LabelPrediction:
    """What one more label of the campaign's usual size will cost, learnt from those of the same settings."""

    settings_hash: str
    oracle: str
    atoms: int
    runs: int
    """Calculations that follow each other: absorbers, where each has its own."""
    seconds: float
    upper_seconds: float
    """What hardly any label exceeds."""
    gib: float | None
    """Memory of a worker and its programs together, GiB; None where none was measured."""
    upper_gib: float | None
    labels: int
    """How many it was learnt from, of whatever campaign."""
    exponent: float
    """The seconds of one run grow as the atoms to this power, as far as is known."""


@dataclass(frozen=True)
class Cost:
    """The bill. ``seeds`` includes the labels of the starting structures made by the same tasks."""

    labels: dict[str, LabelCost]
    """By role: seed, baseline, guided, confirm."""
    seeds: Work
    trainings: Work
    failures: tuple[Failure, ...]
    wall_seconds: float | None
    """From the first start to the end, or to now while it runs; pauses between sessions included."""
    active_seconds: float
    """Sum over the sessions of the driver: pauses left out."""
    sessions: int
    cpu_seconds: float
    """CPU time of all pools."""
    predictions: tuple[LabelPrediction, ...]
    """One for each set of oracle settings with which a label was made."""

    @property
    def label_seconds(self) -> float:
        """Oracle seconds paid for labels of every role."""
        return sum(cost.seconds for cost in self.labels.values())

    @property
    def failed(self) -> int:
        """Number of tasks that were given up."""
        return sum(failure.count for failure in self.failures)

    @property
    def failed_by_kind(self) -> dict[str, int]:
        """The same by the kind of the last failure, most frequent first."""
        found: Counter[str] = Counter()
        for failure in self.failures:
            found[failure.failure] += failure.count
        return dict(found.most_common())


def read_cost(session: Session, campaign: Campaign) -> Cost:
    """The bill of a campaign so far."""
    usage = list(session.scalars(select(PoolUsage).where(PoolUsage.campaign_id == campaign.id)))
    return Cost(
        labels=_labels(session, campaign.id),
        seeds=_work(session, campaign.id, TaskKind.SEED),
        trainings=_work(session, campaign.id, TaskKind.TRAIN),
        failures=_failures(session, campaign.id),
        wall_seconds=_wall_seconds(campaign, utc_now()),
        active_seconds=_active_seconds(usage),
        sessions=len({row.session for row in usage}),
        cpu_seconds=sum(row.cpu_seconds for row in usage),
        predictions=_predictions(session, campaign.id),
    )


def _predictions(session: Session, campaign_id: int) -> tuple[LabelPrediction, ...]:
    query = (
        select(TaskRow.settings_hash, Structure.n_atoms)
        .join(Structure, Structure.id == TaskRow.structure_id)
        .where(TaskRow.campaign_id == campaign_id, TaskRow.kind == TaskKind.LABEL.value)
    )
    sizes: dict[str, list[int]] = {}
    for settings_hash, atoms in session.execute(query):
        sizes.setdefault(settings_hash or "", []).append(atoms)
    found = (_prediction(session, name, median_low(sizes[name])) for name in sorted(sizes))
    return tuple(one for one in found if one is not None)


def _prediction(session: Session, settings_hash: str, atoms: int) -> LabelPrediction | None:
    known = session.get(OracleSettings, settings_hash)
    oracle = "" if known is None else known.oracle
    model = learnt(session, oracle, settings_hash)
    if model is None:
        return None
    runs = model.usual_runs(atoms)
    return LabelPrediction(
        settings_hash=settings_hash,
        oracle=oracle,
        atoms=atoms,
        runs=runs,
        seconds=model.seconds(atoms, runs),
        upper_seconds=model.upper_seconds(atoms, runs),
        gib=model.gib(atoms),
        upper_gib=model.upper_gib(atoms),
        labels=model.labels,
        exponent=model.run.exponent,
    )


def _labels(session: Session, campaign_id: int) -> dict[str, LabelCost]:
    query = (
        select(LabelUse.role, LabelRow.seconds, TaskRow.campaign_id)
        .join(LabelRow, LabelRow.id == LabelUse.label_id)
        .outerjoin(TaskRow, TaskRow.id == LabelRow.task_id)
        .where(LabelUse.campaign_id == campaign_id)
    )
    rows = session.execute(query).all()
    costs = {}
    for role in LabelRole:
        of_role = [
            (seconds, owner in (None, campaign_id)) for used_as, seconds, owner in rows if used_as == role
        ]
        paid = [seconds for seconds, own in of_role if own]
        costs[role.value] = LabelCost(len(of_role), float(sum(paid)), len(of_role) - len(paid))
    return costs


def _work(session: Session, campaign_id: int, kind: TaskKind) -> Work:
    query = select(TaskRow.state, TaskRow.seconds).where(
        TaskRow.campaign_id == campaign_id, TaskRow.kind == kind.value
    )
    rows = session.execute(query).all()
    done = sum(state == TaskState.DONE for state, _ in rows)
    return Work(done, float(sum(seconds or 0.0 for _, seconds in rows)))


def _failures(session: Session, campaign_id: int) -> tuple[Failure, ...]:
    last = (
        select(AttemptRow.task_id, func.max(AttemptRow.id).label("id"))
        .group_by(AttemptRow.task_id)
        .subquery()
    )
    query = (
        select(TaskRow.kind, TaskRow.last_error, AttemptRow.outcome)
        .outerjoin(last, last.c.task_id == TaskRow.id)
        .outerjoin(AttemptRow, AttemptRow.id == last.c.id)
        .where(TaskRow.campaign_id == campaign_id, TaskRow.state == TaskState.QUARANTINED)
    )
    found = Counter(
        (kind, _one_line(error), outcome or "unknown") for kind, error, outcome in session.execute(query)
    )
    return tuple(
        Failure(kind, reason, count, failure) for (kind, reason, failure), count in found.most_common()
    )


def _one_line(error: str | None) -> str:
    reason, _, _ = (error or "no reason recorded").partition(f"; {OUTPUT_IN}")  # each has a folder of its own
    return " ".join(reason.split())[:MAX_REASON_CHARACTERS]


def _wall_seconds(campaign: Campaign, now: datetime) -> float | None:
    if campaign.started_at is None:
        return None
    ended = (campaign.finished_at or campaign.updated_at) if campaign.state.is_finished() else now
    return max(0.0, (ended - campaign.started_at).total_seconds())


def _active_seconds(usage: list[PoolUsage]) -> float:
    """How long the campaign was worked on: the driver's own row of every session."""
    return sum(row.capacity_seconds for row in usage if row.pool == DRIVER)

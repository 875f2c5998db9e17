"""Seconds that the agent pools were busy, over the whole life of a campaign."""

from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nearedge_db.insert import get_or_insert
from nearedge_db.schema import Event, PoolUsage

from .campaigns import add_event

DRIVER = "driver"
"""Name under which the driver's own time is kept beside the pools': busy is its CPU time."""

MODELS_READY = "models ready"
"""Event at the moment when candidates could first be made and scored, with what the pools had used by then."""


@dataclass(frozen=True)
class PoolTotals:
    """Seconds of one pool over all sessions of the driver; capacity is slots × time."""

    busy_seconds: float
    capacity_seconds: float
    cpu_seconds: float
    tasks: int

    @property
    def occupancy(self) -> float:
        """Share of the slots' time in which they had work, 0 to 1."""
        return self.busy_seconds / self.capacity_seconds if self.capacity_seconds > 0 else 0.0

    @property
    def cpu_utilisation(self) -> float:
        """CPU seconds for each second of a slot."""
        return self.cpu_seconds / self.capacity_seconds if self.capacity_seconds > 0 else 0.0


def add_pool_usage(
    session: Session,
    campaign_id: int,
    driver_session: str,
    pool: str,
    *,
    busy_seconds: float = 0.0,
    capacity_seconds: float = 0.0,
    cpu_seconds: float = 0.0,
    tasks: int = 0,
) -> None:
    """Add to what a pool has used since the driver started; give increments, not totals."""
    key = {"campaign_id": campaign_id, "session": driver_session, "pool": pool}
    row = get_or_insert(session, PoolUsage, key, {})[0]
    session.refresh(row, with_for_update=True)
    row.busy_seconds += busy_seconds
    row.capacity_seconds += capacity_seconds
    row.cpu_seconds += cpu_seconds
    row.tasks += tasks
    session.flush()


def pool_totals(session: Session, campaign_id: int) -> dict[str, PoolTotals]:
    """Pool -> totals over all sessions."""
    query = (
        select(
            PoolUsage.pool,
            func.sum(PoolUsage.busy_seconds),
            func.sum(PoolUsage.capacity_seconds),
            func.sum(PoolUsage.cpu_seconds),
            func.sum(PoolUsage.tasks),
        )
        .where(PoolUsage.campaign_id == campaign_id)
        .group_by(PoolUsage.pool)
        .order_by(PoolUsage.pool)
    )
    return {
        pool: PoolTotals(float(busy), float(capacity), float(cpu), int(tasks))
        for pool, busy, capacity, cpu, tasks in session.execute(query)
    }


def mark_models_ready(session: Session, campaign_id: int) -> None:
    """Keep what the pools have used up to now, unless that was done before; see :func:`totals_since_models`."""
    if _used_before_models(session, campaign_id) is None:
        totals = {pool: asdict(total) for pool, total in pool_totals(session, campaign_id).items()}
        add_event(session, campaign_id, MODELS_READY, {"pools": totals})


def totals_since_models(session: Session, campaign_id: int) -> dict[str, PoolTotals]:
    """:func:`pool_totals` from when the first models were there; empty before that."""
    before = _used_before_models(session, campaign_id)
    if before is None:
        return {}
    nothing = asdict(PoolTotals(0.0, 0.0, 0.0, 0))
    return {
        pool: PoolTotals(**{k: v - before.get(pool, nothing)[k] for k, v in asdict(total).items()})
        for pool, total in pool_totals(session, campaign_id).items()
    }


def _used_before_models(session: Session, campaign_id: int) -> dict[str, dict[str, float]] | None:
    query = select(Event.data_json).where(Event.campaign_id == campaign_id, Event.kind == MODELS_READY)
    found = session.scalars(query.order_by(Event.id).limit(1)).first()
    return None if found is None else dict(found["pools"])

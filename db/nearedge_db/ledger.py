"""The task ledger: expensive work with leases, so that nothing is lost and nothing is paid for twice.

A worker takes a lease, renews it while it works, and writes its result and ``DONE`` in one transaction.
A worker that dies stops renewing; its lease expires and another takes the task, at once where the owner is a
process of the same machine (``processes.life_of_this_process``) that is no more. ``owner`` must name one life
of one worker: whoever holds the name holds the lease.

>>> ledger = Ledger(database)                                             # doctest: +SKIP
>>> task = ledger.submit("label", identity, {"structure_id": 3}, campaign_id=1)   # doctest: +SKIP
>>> task = ledger.lease("labeler-7f3a", task_id=task.id, seconds=60)      # doctest: +SKIP
>>> with keep_alive(ledger, task, seconds=60) as lease:                   # doctest: +SKIP
...     label = oracle.label(atoms)
>>> ledger.complete(task.id, "labeler-7f3a", write_label, label.seconds)  # doctest: +SKIP
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select
from sqlalchemy.orm import Session

from .attempts import CANCELLED, DONE, LOST, AttemptNote, end_attempt
from .database import Database
from .insert import new_rows
from .prepared import Prepared, completed
from .processes import has_died_here
from .schema import Campaign, TaskRow
from .states import TaskKind, TaskState
from .transitions import finish, give, reset, retry_or_quarantine, take_back, wait

_READY = (TaskState.PENDING, TaskState.RETRY)
_OPEN = (TaskState.PENDING, TaskState.RETRY, TaskState.LEASED)


@dataclass(frozen=True)
class Task:
    """A task as it was when read; ``payload`` decoded, timestamps in UTC."""

    id: int
    campaign_id: int | None
    kind: str
    identity: str
    payload: dict[str, Any]
    state: TaskState
    priority: float
    attempts: int
    max_attempts: int
    owner: str | None
    lease_expires_at: datetime | None
    heartbeat_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None
    last_error: str | None
    structure_id: int | None
    settings_hash: str | None


_PLAIN_FIELDS = tuple(field.name for field in fields(Task) if field.name != "payload")


def _detached(row: TaskRow) -> Task:
    return Task(payload=dict(row.payload_json), **{name: getattr(row, name) for name in _PLAIN_FIELDS})


class Standing(NamedTuple):
    """A task as it is when it is entered."""

    id: int
    state: TaskState
    last_error: str | None


def enter(
    session: Session,
    kind: str,
    identity: str,
    payload: dict[str, Any],
    campaign_id: int | None,
    **values: Any,
) -> Standing:
    """What :meth:`Ledger.submit` does, inside the caller's transaction; ``values`` are further columns."""
    values = {
        "kind": TaskKind(kind).value,
        "identity": identity,
        "payload_json": payload,
        "campaign_id": campaign_id,
        **values,
    }
    values = completed(TaskRow.__table__, values)
    added = _enter_statement(tuple(values)).one(session, values)
    if added is not None:
        return Standing(added[0], TaskState.PENDING, None)
    row = session.scalars(select(TaskRow).where(TaskRow.identity == identity)).one()
    _adopt(session, row, campaign_id)
    return Standing(row.id, row.state, row.last_error)


@cache
def _enter_statement(columns: tuple[str, ...]) -> Prepared:
    return Prepared(lambda dialect: new_rows(dialect, TaskRow, ("identity",)).returning(TaskRow.id), columns)


class Ledger:
    """The tasks of one database. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def submit(
        self,
        kind: str,
        identity: str,
        payload: dict[str, Any],
        *,
        campaign_id: int | None,
        priority: float = 0.0,
        max_attempts: int = 3,
        structure_id: int | None = None,
        settings_hash: str | None = None,
    ) -> Task:
        """Enter a task, or return the one of the same identity, whatever its state and campaign.

        A cancelled task is wanted again: it goes back to ``PENDING`` under this campaign. So does a waiting
        one whose own campaign has ended. Higher ``priority`` is leased first. ``settings_hash`` must be
        registered (``store.put_settings``).
        """
        values = {
            "priority": priority,
            "max_attempts": max_attempts,
            "structure_id": structure_id,
            "settings_hash": settings_hash,
        }

        def work(session: Session) -> Task:
            entered = enter(session, kind, identity, payload, campaign_id, **values)
            return _detached(session.get_one(TaskRow, entered.id))

        return self.database.run(work)

    def lease(
        self,
        owner: str,
        *,
        task_id: int | None = None,
        kinds: Iterable[str] | None = None,
        campaign_id: int | None = None,
        seconds: float = 60.0,
    ) -> Task | None:
        """Take the most urgent task that waits, or whose lease has expired; ``None`` when there is none.

        Where none waits, one whose owner has died on this machine. Spends one attempt. A task whose last attempt
        was cut off so is quarantined instead.
        """
        wanted = _wanted(task_id, kinds, campaign_id)

        def work(session: Session) -> Task | None:
            now = self.database.now(session)
            free = or_(TaskRow.state.in_(_READY), _expired(now))
            task = _take_first(session, free, wanted, owner, now, seconds)
            if task is None and (dead := _dead_owners(session, wanted)):
                orphaned = and_(TaskRow.state == TaskState.LEASED, TaskRow.owner.in_(dead))
                task = _take_first(session, orphaned, wanted, owner, now, seconds)
            return task

        return self.database.run(work, synced=False)

    def heartbeat(self, task_id: int, owner: str, seconds: float) -> bool:
        """Renew a lease to last ``seconds`` from now; ``False`` when it is lost."""

        def work(session: Session) -> bool:
            row = _held(session, task_id, owner)
            if row is None:
                return False
            row.heartbeat_at = self.database.now(session)
            row.lease_expires_at = row.heartbeat_at + timedelta(seconds=seconds)
            return True

        return self.database.run(work, synced=False)

    def complete(
        self,
        task_id: int,
        owner: str,
        write: Callable[[Session, Task], None],
        seconds: float,
        note: AttemptNote | None = None,
    ) -> bool:
        """Write the result and ``DONE`` in one transaction.

        Args:
            write: adds the result rows to the session it is given; what it raises leaves nothing written.
            seconds: what the work cost.
            note: what is to be kept of this attempt.

        Returns:
            ``False``, with nothing written, when the lease is no longer ours.
        """

        def work(session: Session) -> bool:
            row = _held(session, task_id, owner)
            if row is None:
                return False
            write(session, _detached(row))
            now = self.database.now(session)
            end_attempt(session, row, DONE, now, note=note)
            finish(row, TaskState.DONE, now)
            row.seconds = seconds
            row.last_error = None
            return True

        return self.database.run(work)

    def fail(
        self,
        task_id: int,
        owner: str,
        error: str,
        retryable: bool,
        kind: str = "crash",
        note: AttemptNote | None = None,
    ) -> TaskState:
        """Record a failed attempt: ``RETRY`` while attempts are left and it may help, else ``QUARANTINED``.

        When the lease is no longer ours nothing changes; the state that the task has is returned.
        """

        def work(session: Session) -> TaskState:
            row = _held(session, task_id, owner)
            if row is None:
                return _get(session, task_id).state
            row.last_error = error
            now = self.database.now(session)
            end_attempt(session, row, kind, now, error, note)
            retry_or_quarantine(session, row, retryable, now)
            return row.state

        return self.database.run(work)

    def give_up_for(self, task_id: int, mark: str, error: str, kind: str = LOST) -> TaskState:
        """Record that the worker with this ``mark`` in its name died under a task; the state that the task has then.

        Where the lease is not that worker's nothing changes. The attempt is spent; lost ones are counted apart.
        """

        def work(session: Session) -> TaskState:
            row = _get(session, task_id, lock=True)
            if row.state is TaskState.LEASED and row.owner is not None and mark in row.owner:
                row.last_error = f"{error} (attempt {row.attempts})"
                now = self.database.now(session)
                end_attempt(session, row, kind, now, row.last_error)
                retry_or_quarantine(session, row, True, now)
            return row.state

        return self.database.run(work)

    def release(self, owner: str) -> int:
        """Give back every lease of ``owner`` without spending the attempt (clean shutdown); how many."""

        def work(session: Session) -> int:
            rows = session.scalars(
                select(TaskRow)
                .where(TaskRow.owner == owner, TaskRow.state == TaskState.LEASED)
                .with_for_update()
            ).all()
            for row in rows:
                row.attempts -= 1
                wait(row)
            return len(rows)

        return self.database.run(work)

    def cancel(self, task_id: int) -> bool:
        """Give up an unfinished task; its worker, if any, finds the lease lost. ``False`` if finished."""

        def work(session: Session) -> bool:
            row = _get(session, task_id, lock=True)
            if row.state.is_finished():
                return False
            now = self.database.now(session)
            if row.state is TaskState.LEASED:
                end_attempt(session, row, CANCELLED, now)
            finish(row, TaskState.CANCELLED, now)
            return True

        return self.database.run(work)

    def reopen(self, task_id: int) -> bool:
        """Put a quarantined or cancelled task back with fresh attempts (its error is kept)."""

        def work(session: Session) -> bool:
            row = _get(session, task_id, lock=True)
            if row.state not in (TaskState.QUARANTINED, TaskState.CANCELLED):
                return False
            reset(row)
            return True

        return self.database.run(work)

    def get(self, task_id: int) -> Task:
        """The task; raises ``LookupError`` when there is none of this number."""
        with self.database.session() as session:
            return _detached(_get(session, task_id))

    def counts(self, campaign_id: int, kind: str | None = None) -> dict[TaskState, int]:
        """How many tasks of a campaign are in each state (all states, zeros too)."""
        query = select(TaskRow.state, func.count().label("tasks")).group_by(TaskRow.state)
        query = query.where(*_wanted(None, None if kind is None else (kind,), campaign_id))
        with self.database.session() as session:
            found = {row.state: row.tasks for row in session.execute(query)}
        return {state: found.get(state, 0) for state in TaskState}

    def open_tasks(self, campaign_id: int, kind: str | None = None) -> list[Task]:
        """The unfinished tasks of a campaign, most urgent first."""
        query = select(TaskRow).where(
            TaskRow.state.in_(_OPEN), *_wanted(None, None if kind is None else (kind,), campaign_id)
        )
        with self.database.session() as session:
            rows = session.scalars(query.order_by(TaskRow.priority.desc(), TaskRow.id))
            return [_detached(row) for row in rows]


def _wanted(
    task_id: int | None, kinds: Iterable[str] | None, campaign_id: int | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if task_id is not None:
        conditions.append(TaskRow.id == task_id)
    if kinds is not None:
        conditions.append(TaskRow.kind.in_([str(kind) for kind in kinds]))
    if campaign_id is not None:
        conditions.append(TaskRow.campaign_id == campaign_id)
    return conditions


_IS_HELD = and_(
    TaskRow.id == bindparam("task"), TaskRow.owner == bindparam("holder"), TaskRow.state == TaskState.LEASED
)
_HELD = select(TaskRow).where(_IS_HELD).with_for_update()


def _take_first(
    session: Session,
    free: ColumnElement[bool],
    wanted: list[ColumnElement[bool]],
    owner: str,
    now: datetime,
    seconds: float,
) -> Task | None:
    """Lease the most urgent of the ``free`` tasks; those that have no attempt left are quarantined on the way."""
    query = select(TaskRow).where(free, *wanted).order_by(TaskRow.priority.desc(), TaskRow.id).limit(1)
    while (row := session.scalar(query.with_for_update(skip_locked=True))) is not None:
        if row.state == TaskState.LEASED:
            take_back(session, row, now)
        if not row.state.is_finished():
            give(row, owner, now, seconds)
            session.flush()
            return _detached(row)
        session.flush()
    return None


def _dead_owners(session: Session, wanted: list[ColumnElement[bool]]) -> list[str]:
    """Owners of leases that were processes of this machine and have ended."""
    query = select(TaskRow.owner).where(TaskRow.state == TaskState.LEASED, *wanted).distinct()
    return [owner for owner in session.scalars(query) if owner is not None and has_died_here(owner)]


def _expired(now: datetime) -> ColumnElement[bool]:
    return and_(TaskRow.state == TaskState.LEASED, TaskRow.lease_expires_at < now)


def _get(session: Session, task_id: int, lock: bool = False) -> TaskRow:
    row = session.get(TaskRow, task_id, with_for_update=lock or None)
    if row is None:
        raise LookupError(f"no task {task_id}")
    return row


def _held(session: Session, task_id: int, owner: str) -> TaskRow | None:
    """The task, locked, if ``owner`` still holds its lease (even one past its end that nobody took)."""
    return session.scalar(_HELD, {"task": task_id, "holder": owner})


def _adopt(session: Session, row: TaskRow, campaign_id: int | None) -> None:
    """A task that waits for nobody passes to the campaign that asks for it again."""
    if row.campaign_id == campaign_id and row.state != TaskState.CANCELLED:
        return
    owner = None if row.campaign_id is None else session.get(Campaign, row.campaign_id)
    if row.state == TaskState.CANCELLED:
        reset(row)
    elif row.state not in _READY or (owner is not None and not owner.state.is_finished()):
        return
    row.campaign_id = campaign_id
    session.flush()

"""The tries at a task, each a row that is written in the transaction that ends it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .schema import AttemptRow, LabelRow, Structure, TaskRow
from .states import TaskKind

MOST_LABELS = 500

DONE = "done"
CANCELLED = "cancelled"
LOST = "lost"
"""The worker died or went silent."""


@dataclass(frozen=True)
class AttemptNote:
    """What only the worker knows of its try.

    Attributes:
        changes: settings that differed from those that were asked for.
        peak_gib: most memory that the worker and its programs had together, GiB.
        runs: calculations that follow each other in the whole label, those of earlier tries included.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    peak_gib: float | None = None
    runs: int | None = None


def end_attempt(
    session: Session,
    task: TaskRow,
    outcome: str,
    now: datetime,
    reason: str | None = None,
    note: AttemptNote | None = None,
) -> None:
    """Record how the running try at ``task`` ended; its number and start are the task's."""
    note = note or AttemptNote()
    started = task.started_at
    session.add(
        AttemptRow(
            task_id=task.id,
            number=task.attempts,
            owner=task.owner,
            started_at=started,
            ended_at=now,
            outcome=outcome,
            reason=reason,
            seconds=0.0 if started is None else max((now - started).total_seconds(), 0.0),
            changes_json=dict(note.changes),
            peak_gib=note.peak_gib,
            runs=note.runs,
        )
    )


def failures_before(session: Session, task_id: int, attempts: int) -> list[str]:
    """How the tries before attempt ``attempts`` of this task ended, oldest first, without those before it was
    reopened.
    """
    query = select(AttemptRow.outcome).where(AttemptRow.task_id == task_id).order_by(AttemptRow.id.desc())
    return list(session.scalars(query.limit(max(attempts - 1, 0))))[::-1]


class FinishedLabel(NamedTuple):
    """A label that a task of its own gave.

    Attributes:
        atoms: in the cell.
        runs: calculations that followed each other.
        seconds: the label's own, which include what earlier tries did for it; of the last try where it has none.
        peak_gib: most memory in the last try, GiB.
    """

    atoms: int
    runs: int
    seconds: float
    peak_gib: float | None


def finished_labels(session: Session, settings_hash: str) -> list[FinishedLabel]:
    """The last labels of these settings, of whatever campaign; the latest first."""
    query = (
        select(
            Structure.n_atoms,
            func.coalesce(AttemptRow.runs, 1),
            func.coalesce(LabelRow.seconds, AttemptRow.seconds),
            AttemptRow.peak_gib,
        )
        .join(TaskRow, TaskRow.id == AttemptRow.task_id)
        .join(Structure, Structure.id == TaskRow.structure_id)
        .outerjoin(LabelRow, LabelRow.task_id == TaskRow.id)
        .where(
            TaskRow.kind == TaskKind.LABEL.value,
            TaskRow.settings_hash == settings_hash,
            AttemptRow.outcome == DONE,
        )
        .order_by(AttemptRow.id.desc())
        .limit(MOST_LABELS)
    )
    return [FinishedLabel(*row) for row in session.execute(query)]

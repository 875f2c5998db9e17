"""How a task passes from one state to the next, inside the caller's transaction."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from .attempts import LOST, end_attempt, failures_before
from .schema import TaskRow
from .states import TaskState

MOST_LOST = 10
"""Attempts of a task whose workers were lost, before it is set aside: it may be what kills them."""


def give(row: TaskRow, owner: str, now: datetime, seconds: float) -> None:
    """Lease a task, which spends an attempt."""
    row.state = TaskState.LEASED
    row.owner = owner
    row.attempts += 1
    row.started_at = row.heartbeat_at = now
    row.lease_expires_at = now + timedelta(seconds=seconds)


def wait(row: TaskRow) -> None:
    """Back to waiting; a task that has failed before waits as ``RETRY``."""
    row.state = TaskState.PENDING if row.last_error is None else TaskState.RETRY
    row.owner = row.lease_expires_at = None


def finish(row: TaskRow, state: TaskState, now: datetime) -> None:
    """End a task; a finished one keeps its last owner on record, but no lease."""
    row.state = state
    row.lease_expires_at = None
    row.finished_at = now


def retry_or_quarantine(session: Session, row: TaskRow, retryable: bool, now: datetime) -> None:
    """After an attempt that brought nothing: back to waiting while it may help, else set aside.

    Attempts whose worker was lost are counted apart: they say little of the task.
    """
    lost = failures_before(session, row.id, row.attempts + 1).count(LOST)
    is_left = row.attempts - lost < row.max_attempts and lost < max(row.max_attempts, MOST_LOST)
    if retryable and is_left:
        wait(row)
    else:
        finish(row, TaskState.QUARANTINED, now)


def take_back(session: Session, row: TaskRow, now: datetime) -> None:
    """End the attempt of a worker that went silent or died."""
    end = "expired" if row.lease_expires_at is not None and row.lease_expires_at < now else "ended with it"
    row.last_error = f"the lease of {row.owner} {end} in attempt {row.attempts}"
    end_attempt(session, row, LOST, now, row.last_error)
    retry_or_quarantine(session, row, True, now)


def reset(row: TaskRow) -> None:
    """Back to waiting with all attempts."""
    row.attempts = 0
    row.finished_at = None
    wait(row)

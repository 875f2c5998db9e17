"""What the actors that work for the ledger share: lease, renew, write result and DONE in one transaction."""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import ray
from sqlalchemy.orm import Session

from nearedge_agents.agent import Agent
from nearedge_db.attempts import AttemptNote
from nearedge_db.database import Database
from nearedge_db.keepalive import KeepAlive, keep_alive
from nearedge_db.ledger import Ledger, Task
from nearedge_db.processes import life_of_this_process
from nearedge_db.states import TaskState

logger = logging.getLogger(__name__)

LEASE_S = 60.0

Write = Callable[[Session, Task], None]


@dataclass(frozen=True)
class TaskReport:
    """How a task stands after a worker had it; ``error`` is the last attempt's."""

    task_id: int
    state: TaskState
    error: str | None = None
    trouble: str | None = None
    """What went wrong once the result was in the database, and can be tried again."""


class LedgerWorker(Agent):
    """An actor that takes tasks of the ledger by their number."""

    failures: tuple[type[Exception], ...] = ()
    """Exceptions that mean: this attempt failed. Any other reaches the driver, and the lease is given back."""
    leaves_after: tuple[type[Exception], ...] = ()
    """Those of them that are this machine's fault: the process leaves, so that others get the task."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.database = Database(url)
        self.ledger = Ledger(self.database)
        self.owner = life_of_this_process(_mark())
        self.lease: KeepAlive | None = None
        """That of the task under way; None before the first."""

    def work(self, task_id: int) -> TaskReport:
        """Do one task. A task that somebody else has, or that is finished, is reported as it stands."""
        task = self.ledger.lease(self.owner, task_id=task_id, seconds=LEASE_S)
        if task is None:
            return self._report(task_id)
        started = time.monotonic()
        try:
            with keep_alive(self.ledger, task, LEASE_S) as self.lease:
                write = self.result(task)
            seconds = time.monotonic() - started
            if self.ledger.complete(task.id, self.owner, write, seconds, self.note()):
                return TaskReport(task.id, TaskState.DONE, None, self.settled(task))
        except self.failures as error:
            reason = f"{type(error).__name__}: {error}"
            kind = str(getattr(error, "kind", "crash"))
            retryable = self.may_retry(task, error)
            logger.warning(
                "attempt failed", extra={"data": {"problem": reason, "kind": kind, "retryable": retryable}}
            )
            self.ledger.fail(task.id, self.owner, reason, retryable, kind, self.note())
            self.leaves = isinstance(error, self.leaves_after)
        except BaseException:
            self.ledger.release(self.owner)
            raise
        return self._report(task_id)

    def result(self, task: Task) -> Write:
        """Do the work; returns what writes its result rows in the completing transaction."""
        raise NotImplementedError

    def may_retry(self, task: Task, error: Exception) -> bool:
        """Whether another attempt may help."""
        return bool(getattr(error, "retryable", isinstance(error, OSError)))

    def note(self) -> AttemptNote:
        """What is to be kept of the attempt that ends now."""
        return AttemptNote()

    def settled(self, task: Task) -> str | None:
        """What follows once the result is in the database; returns what went wrong. By default nothing."""
        return None

    def _report(self, task_id: int) -> TaskReport:
        task = self.ledger.get(task_id)
        return TaskReport(task.id, task.state, task.last_error)


def _mark() -> str:
    """By what the pool knows this worker: the actor's id. Outside of Ray, something unique."""
    actor = ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None
    return actor or uuid.uuid4().hex

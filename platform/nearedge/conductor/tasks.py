"""Tasks of the ledger on their way through a pool: which can go now, and which must wait."""

import time
from collections import deque
from dataclasses import dataclass, field

from nearedge_agents.pool import Done, Work
from nearedge_agents.worker import TaskReport
from nearedge_db.states import TaskState

PAUSE_S = 3.0
"""A task whose worker died is leased until the lease ends: how long to wait before asking again."""


@dataclass
class TaskQueue:
    """Numbers of unfinished tasks, first in, first out; under way ones are kept apart."""

    _ready: deque[int] = field(default_factory=deque)
    _paused: list[tuple[float, int]] = field(default_factory=list)
    _under_way: set[int] = field(default_factory=set)

    def add(self, task_id: int) -> None:
        """Queue a task."""
        self._ready.append(task_id)

    @property
    def unfinished(self) -> int:
        """Tasks that are queued, waiting for a lease to end, or under way."""
        return len(self._ready) + len(self._paused) + len(self._under_way)

    @property
    def under_way(self) -> int:
        """Tasks that an actor has."""
        return len(self._under_way)

    @property
    def ready(self) -> int:
        """Tasks that an actor could take now."""
        now = time.monotonic()
        return len(self._ready) + sum(due <= now for due, _ in self._paused)

    def offer(self) -> Work | None:
        """Work for the next task that can go, if any."""
        now = time.monotonic()
        self._ready.extend(task_id for due, task_id in self._paused if due <= now)
        self._paused = [(due, task_id) for due, task_id in self._paused if due > now]
        if not self._ready:
            return None
        task_id = self._ready.popleft()
        self._under_way.add(task_id)
        return Work("work", (task_id,), tag=task_id)

    def accept(self, done: Done) -> TaskReport | None:
        """The report of a finished task; None when it goes round again. Raises what broke an actor's code."""
        task_id = done.work.tag
        self._under_way.discard(task_id)
        if done.lost:
            self._paused.append((time.monotonic() + PAUSE_S, task_id))
            return None
        if done.error is not None:
            raise done.error
        report: TaskReport = done.value
        if report.state.is_finished():
            return report
        pause = PAUSE_S if report.state is TaskState.LEASED else 0.0
        self._paused.append((time.monotonic() + pause, task_id))
        return None

"""Tasks of the ledger on their way through a pool: which can go now, and which must wait."""

import heapq
import time
from dataclasses import dataclass, field

from nearedge_agents.pool import Done, Work
from nearedge_agents.worker import TaskReport
from nearedge_db.states import TaskState

PAUSE_S = 3.0
"""A task whose worker died is leased until the lease ends: how long to wait before asking again."""


@dataclass
class TaskQueue:
    """Numbers of unfinished tasks; under way ones are kept apart.

    The longest go first, so that none begins when all others are done and keeps the campaign waiting; of tasks that
    are equally long, the first that came.
    """

    _ready: list[tuple[float, int, int]] = field(default_factory=list)
    """A heap of (what it is expected to take, negative; when it came; number)."""
    _paused: list[tuple[float, int]] = field(default_factory=list)
    _under_way: set[int] = field(default_factory=set)
    _expected: dict[int, float] = field(default_factory=dict)
    _came: int = 0

    def add(self, task_id: int, expected: float = 0.0) -> None:
        """Queue a task that is expected to take so long; the unit is the same for all of a queue."""
        self._expected[task_id] = expected
        self._push(task_id)

    def _push(self, task_id: int) -> None:
        self._came += 1
        heapq.heappush(self._ready, (-self._expected[task_id], self._came, task_id))

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
        for task_id in (task_id for due, task_id in self._paused if due <= now):
            self._push(task_id)
        self._paused = [(due, task_id) for due, task_id in self._paused if due > now]
        if not self._ready:
            return None
        task_id = heapq.heappop(self._ready)[2]
        self._under_way.add(task_id)
        return Work("work", (task_id,), tag=task_id)

    def take_over(self, work: Work) -> bool:
        """Whether an actor has this task, which was queued, under way already."""
        if work.method != "work" or work.tag not in self._expected or work.tag in self._under_way:
            return False
        self._ready = [entry for entry in self._ready if entry[2] != work.tag]
        heapq.heapify(self._ready)
        self._paused = [entry for entry in self._paused if entry[1] != work.tag]
        self._under_way.add(work.tag)
        return True

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

"""Pools whose work takes no time, or a made-up one: what the loop costs, and what it does with long work.

A clock that jumps stands for the waiting: of several things under way, whichever ends first is next.
"""

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearedge_agents.pool import Done, Usage, Work

Ref = tuple[str, int]
"""Name of the pool, and number of the work in it."""


@dataclass
class Clock:
    """Made-up time in seconds, and what ends when."""

    now: float = 0.0
    actor_cpu_s: float = 0.0
    """Processor time that the work itself took, all pools together."""
    actor_wall_s: float = 0.0
    _ends: list[tuple[float, Ref]] = field(default_factory=list)

    def add(self, ref: Ref, seconds: float) -> None:
        """Work that ends so many seconds from now."""
        heapq.heappush(self._ends, (self.now + seconds, ref))

    def wait(self, refs: Sequence[Any], timeout_s: float) -> list[Any]:
        """All of ``refs`` that have ended; where none has, time jumps to the next end."""
        del timeout_s
        if self._ends and refs:
            self.now = max(self.now, self._ends[0][0])
        ready = []
        while self._ends and self._ends[0][0] <= self.now:
            ready.append(heapq.heappop(self._ends)[1])
        return ready


@dataclass
class ClockedPool:
    """Stands in for `nearedge_agents.pool.Pool`: the work is done in this process when its answer is collected."""

    name: str
    size: int
    clock: Clock
    answer: Callable[[Work], Any]
    seconds: Callable[[str, Work], float] = lambda pool, work: 0.0
    """How long a piece of work of a pool takes by the clock."""
    works: dict[int, tuple[Work, float]] = field(default_factory=dict)
    """What is under way, by its number, and since when."""
    _given: int = 0
    _usage: Usage = field(default_factory=Usage)
    _mark: float = 0.0

    def start(self) -> None:
        """Nothing has to be started."""
        self._mark = self.clock.now

    def stop(self) -> None:
        """Forget the work under way."""
        self.works.clear()

    starting = leaving = 0
    """Places that are not there yet, or still there: none."""

    def tend(self) -> None:
        """Nothing has to be looked after."""

    def resize(self, size: int) -> None:
        """Have so many places from now on; work under way goes on."""
        self.size = size

    @property
    def free(self) -> int:
        """Places without work."""
        return max(self.size - len(self.works), 0)

    @property
    def under_way(self) -> list[Work]:
        """Work that has not been collected."""
        return [work for work, _ in self.works.values()]

    @property
    def refs(self) -> list[Ref]:
        """What to wait for."""
        return [(self.name, number) for number in self.works]

    def submit(self, work: Work) -> None:
        """Take a piece of work. Raises RuntimeError where no place is free."""
        if not self.free:
            raise RuntimeError(f"pool {self.name} has no free place")
        self.works[self._given] = (work, self.clock.now)
        self.clock.add((self.name, self._given), self.seconds(self.name, work))
        self._given += 1

    def collect(self, ref: Ref) -> Done:
        """Do the work; its processor time is the actors', not the loop's."""
        work, since = self.works.pop(ref[1])
        self._usage.busy += self._busy(work, since)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        value = self.answer(work)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        self.clock.actor_cpu_s += cpu_s
        self.clock.actor_wall_s += wall_s
        self._usage.cpu += cpu_s
        self._usage.tasks += not work.upkeep
        return Done(work, value=value)

    def usage(self) -> Usage:
        """Seconds by the clock since the last call, work under way included."""
        now = self.clock.now
        self._usage.busy += sum(self._busy(work, since) for work, since in self.works.values())
        self._usage.capacity = self.size * (now - self._mark)
        report, self._usage, self._mark = self._usage, Usage(), now
        return report

    def _busy(self, work: Work, since: float) -> float:
        return 0.0 if work.upkeep else self.clock.now - max(since, self._mark)

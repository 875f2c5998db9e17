"""Keeps the pools at the sizes that nodes and queues call for."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearedge.conductor.stage import Stage
from nearedge.pools import PoolConfig
from nearedge.room import Resources, asked
from nearedge_agents.balancing import Amounts, Demand, Watch, plan
from nearedge_agents.pool import Pool

PERIOD_S = 1.0
"""How often the nodes are counted: a new one is used, a lost one missed, after so long."""
PATIENCE_S = 120.0
"""An actor that should have room and is not up after so long shows that others use it."""
BELIEF_S = 600.0
"""How long that is believed."""
ORDER = ("labeler", "trainer", "scorer", "generator")
"""Who goes first where not every pool can have an actor: who comes last in a candidate's life."""


@dataclass
class Balance:
    """Resizes the pools. ``nodes`` returns the total amounts of every living node."""

    pools: Mapping[str, Pool]
    settings: Mapping[Any, PoolConfig]
    stages: Sequence[Stage]
    nodes: Callable[[], Sequence[Resources]]
    tell: Callable[..., None] = lambda kind, **data: None
    """Told of new sizes where the nodes are not what they were."""
    show: Callable[[Mapping[str, Pool], Mapping[str, int]], None] = lambda pools, waiting: None
    """Shown the pools and the work that waits for each, every time they are looked at."""
    is_shared: bool = False
    """Whether others may use the nodes too."""
    clock: Callable[[], float] = time.monotonic
    _watches: dict[str, Watch] = field(default_factory=dict, repr=False)
    _late_since: dict[str, float] = field(default_factory=dict, repr=False)
    """Since when a pool waits for an actor, while no actor is on its way out."""
    _elsewhere: list[tuple[float, Amounts]] = field(default_factory=list, repr=False)
    """Until when it is believed that others use how much."""
    _nodes_before: int = field(default=0, repr=False)
    _next_at: float = field(default=float("-inf"), repr=False)

    def start(self) -> None:
        """Create the actors there is room for."""
        self._watches = {name: Watch() for name in self._names}
        for name, size in self._plan(dict.fromkeys(self.pools, 0)).items():
            self.pools[name].size = size
        for pool in self.pools.values():
            pool.start()

    def tick(self) -> None:
        """Look at nodes and queues, at most every ``PERIOD_S``, and resize what is to be resized."""
        now = self.clock()
        if now < self._next_at:
            return
        self._next_at = now + PERIOD_S
        backlog = {name: self._backlog(name) for name in self.pools}
        waiting = {name: max(backlog[name] - pool.free, 0) for name, pool in self.pools.items()}
        for name, pool in self.pools.items():
            busy = len(pool.under_way)
            self._watches[name].look(now, waiting=waiting[name], busy=busy, idle=pool.free - backlog[name])
        self.show(self.pools, waiting)
        if self.is_shared:
            self._look_for_late(now)
        for name, size in self._plan(backlog).items():
            if size != self.pools[name].size:
                self.pools[name].resize(size)

    @property
    def _names(self) -> list[str]:
        return [*(name for name in ORDER if name in self.pools), *(n for n in self.pools if n not in ORDER)]

    def _backlog(self, name: str) -> int:
        return sum(stage.backlog for stage in self.stages if stage.pool == name)

    def _plan(self, backlog: Mapping[str, int]) -> dict[str, int]:
        nodes = self.nodes()
        demands = [self._demand(name, backlog[name]) for name in self._names]
        sizes = plan(nodes, demands, [use for _, use in self._elsewhere])
        if len(nodes) != self._nodes_before:
            self._elsewhere.clear()
            wanted = {name: settings.size for name, settings in self.settings.items()}
            if self._nodes_before or any(sizes[name] < wanted[name] for name in sizes):
                self.tell("pools sized", nodes=len(nodes), sizes=sizes, wanted=wanted)
            self._nodes_before = len(nodes)
        return sizes

    def _demand(self, name: str, backlog: int) -> Demand:
        pool, settings, watch, now = self.pools[name], self.settings[name], self._watches[name], self.clock()
        coming = pool.free + pool.starting
        return Demand(
            name=name,
            asks=asked(settings),
            size=settings.size,
            most=settings.most,
            held=pool.size,
            busy=len(pool.under_way) + min(coming, backlog),
            waiting=max(backlog - coming, 0) if watch.waits(now) or not pool.size else 0,
            starving_s=watch.starving_s(now),
            turn_s=watch.turn_s(now),
            lingers=watch.lingers(now),
        )

    def _look_for_late(self, now: float) -> None:
        """Where actors do not come up though there should be room, others use it: the pools share what is left."""
        self._elsewhere = [(until, use) for until, use in self._elsewhere if until > now]
        leaving = any(pool.leaving for pool in self.pools.values())
        for name, pool in self.pools.items():
            if leaving or not pool.starting:
                self._late_since.pop(name, None)
            else:
                self._late_since.setdefault(name, now)
        late = min(self._late_since, key=self._late_since.__getitem__, default=None)
        if late is not None and now - self._late_since[late] >= PATIENCE_S:
            self._elsewhere.append((now + BELIEF_S, asked(self.settings[late])))
            self._late_since.clear()  # one at a time: the others may only be slow

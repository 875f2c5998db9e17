"""The loop: every free actor gets the most useful work there is, until there is a reason to stop."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import ray

from nearedge.conductor.stage import Stage
from nearedge_agents.pool import Done, Pool, Work

TICK_S = 0.2
"""How long the loop waits for an answer before it looks around (stop request, progress display)."""


Wait = Callable[[Sequence[Any], float], list[Any]]
"""(references, seconds) -> those whose answers are there; waits for the first of them, so many seconds at most."""


_Given = tuple[Pool, Stage, Work]
_Ended = tuple[str, Done]
"""Name of the pool, and what ended in it."""


def wait_for_ray(refs: Sequence[Any], timeout_s: float) -> list[Any]:
    """All references that are ready; where none is, the first one that gets ready in time."""
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    if not ready:
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
    return list(ready)


@dataclass
class Loop:
    """Dispatches stages onto pools. ``stages`` are in order of urgency within each pool."""

    pools: dict[str, Pool]
    stages: Sequence[Stage]
    reason_to_stop: Callable[[], str | None]
    """Asked after every round: the reason, or None to go on."""
    on_tick: Callable[[], None]
    """Called about every ``TICK_S``: bookkeeping and display."""
    on_loss: Callable[[Done], None] = lambda done: None
    """Told of work whose actor died, before the stage is."""
    on_done: Callable[[str, Done], None] = lambda pool, done: None
    """Told of every piece of work that ended, and in which pool."""
    wait: Wait = wait_for_ray
    joined: Callable[[], AbstractContextManager[None]] = nullcontext
    """What stages write in such a block is stored together, at its end."""
    _owner: dict[int, Stage] = field(default_factory=dict, repr=False)
    _dropped: list[Work] = field(default_factory=list, repr=False)
    """Work under way whose answer nobody wants."""

    def run(self) -> str:
        """Stream until there is a reason to stop; returns it. Work under way is left under way: see ``drain``."""
        ended: list[_Ended] | None = None
        while True:
            with self.joined():
                if ended is not None:
                    self._accept(ended)
                reason = self.reason_to_stop()
                given = [] if reason is not None else self._offers()
            self._dispatch(given)  # only now can an actor find what is stored of it
            self.on_tick()  # in no such block: it draws, and asks Ray for its nodes
            if reason is not None:
                return reason
            ended = self._collect(TICK_S)
            if not ended and not any(pool.refs for pool in self.pools.values()):
                time.sleep(TICK_S)

    def drain(self, seconds: float, wanted: Callable[[str, Work], bool]) -> bool:
        """Wait up to ``seconds`` for the work under way that is ``wanted`` (pool, work); True when none is left."""
        deadline = time.monotonic() + seconds
        while any(wanted(name, work) for name, pool in self.pools.items() for work in pool.under_way):
            if time.monotonic() > deadline:
                return False
            self._accept(self._collect(TICK_S))
            self.on_tick()
        return True

    def _dispatch(self, given: Sequence[_Given]) -> None:
        for pool, stage, work in given:
            self._owner[id(work)] = stage
            pool.submit(work)

    def _offers(self) -> list[_Given]:
        """Work for every free actor, as far as there is any."""
        free = {name: pool.free for name, pool in self.pools.items()}
        given = []
        for stage in self.stages:
            while free[stage.pool]:
                work = stage.offer()
                if work is None:
                    break
                free[stage.pool] -= 1
                given.append((self.pools[stage.pool], stage, work))
        return given

    def _collect(self, timeout: float) -> list[_Ended]:
        """What has ended, and in which pool; waits for the first so long."""
        for pool in self.pools.values():
            pool.tend()
        by_ref = {ref: pool for pool in self.pools.values() for ref in pool.refs}
        ready = self.wait(list(by_ref), timeout) if by_ref else []
        return [(by_ref[ref].name, by_ref[ref].collect(ref)) for ref in ready]

    def _accept(self, ended: Sequence[_Ended]) -> None:
        """Give each answer to the stage that asked."""
        with self.joined():
            for name, done in ended:
                self.on_done(name, done)
                if done.lost:
                    self.on_loss(done)
                if not self._has_no_stage(done.work):
                    self._owner.pop(id(done.work)).accept(done)

    def take_over(self, works: Mapping[str, Sequence[Work]]) -> None:
        """Work that is under way in the pools (by name) when the loop begins: it goes to the stage that wants it.

        The answer to any other is dropped.
        """
        for name, under_way in works.items():
            for work in under_way:
                stage = next((one for one in self.stages if one.pool == name and one.takes_over(work)), None)
                if stage is None:
                    self._dropped.append(work)
                else:
                    self._owner[id(work)] = stage

    def _has_no_stage(self, work: Work) -> bool:
        """Whether nobody wants the answer, which comes once."""
        before = len(self._dropped)
        self._dropped = [one for one in self._dropped if one is not work]
        return len(self._dropped) < before

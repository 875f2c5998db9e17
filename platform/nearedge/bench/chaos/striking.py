"""Carries out the strikes of a plan on the processes of a campaign that runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psutil

from nearedge.bench.chaos.account import Kill
from nearedge.bench.chaos.cluster import RayNodes
from nearedge.bench.chaos.driving import Driver
from nearedge.bench.chaos.nodes import kill
from nearedge.bench.chaos.plan import Strike, Victim

ACTORS: dict[Victim, str] = {"labeler": "Labeler", "trainer": "Trainer", "generator": "Generator"}
"""Their classes: Ray names a process ``ray::Labeler.perform`` while it works."""

REST_S = 3.0
"""Between two strikes."""


@dataclass
class Striker:
    """Strikes whoever is due; ``kills`` are those that were carried out."""

    strikes: Sequence[Strike]
    driver: Driver
    nodes: RayNodes
    clock: Callable[[], float] = time.time
    kills: list[Kill] = field(default_factory=list)
    _due: dict[Strike, float] = field(default_factory=dict)

    def step(self, labels: int) -> None:
        """Look what is due now that so many labels are stored; strikes once at most."""
        now = self.clock()
        for strike in self.strikes:
            if labels >= strike.after_labels:
                self._due.setdefault(strike, now + strike.delay_s)
        if self.kills and now < self.kills[-1].time + REST_S:
            return
        left = self.left
        for strike in [one for one, due in self._due.items() if due <= now and one.victim in left]:
            pids = self._strike(strike.victim)
            if pids:
                self.kills.append(Kill(strike.victim, now, tuple(pids)))
                return

    @property
    def left(self) -> list[Victim]:
        """Those who were never at work when they were due, or are not due yet."""
        struck = {one.victim for one in self.kills}
        return [strike.victim for strike in self.strikes if strike.victim not in struck]

    def _strike(self, victim: Victim) -> list[int]:
        """The numbers of the processes that were killed; none where the victim is not at work now."""
        if victim == "driver":
            pid = self.driver.process.pid
            self.driver.end()
            self.driver.start()
            return [pid]
        if victim == "node":
            return self.nodes.kill_other_node()
        working = f"ray::{ACTORS[victim]}.perform"
        found = [process for process in self.nodes.processes() if title(process).startswith(working)]
        return [process.pid for process in found[:1] if kill(process)]


def title(process: psutil.Process) -> str:
    """What a process calls itself; empty where it has ended."""
    try:
        words = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
    return words[0] if words else ""

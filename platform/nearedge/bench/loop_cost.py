"""What the conductor costs for each label when the oracle costs nothing."""

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import create_trial

from nearedge.bench.loop_world import LoopWorld
from nearedge.conductor.conductor import Conductor
from nearedge_db.store import add_event

WARM_UP_LABELS = 20
"""Labels before the measurement: statements are compiled and files grow."""
SECTIONS: dict[str, Any] = {"material": {"composition": "C64"}}
"""All else as it is by default: 2 labelers, 4 structures a batch, 3 scored for each label, retraining every 12."""


@dataclass
class LoopCost:
    """Processor and wall time in ms for each label task, of labels candidates and trainings included.

    ``stages``: processor time of each stage; ``steering`` is part of them.
    """

    labels: int
    candidates: int
    driver_cpu_ms: float
    driver_wall_ms: float
    ledger_cpu_ms: float
    """What the agents did: leases, and results with DONE in one transaction."""
    stages: dict[str, float]


@dataclass
class _Meter:
    """Processor time by name, without the agents' share."""

    world: LoopWorld
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def now(self) -> float:
        return time.process_time() - self.world.clock.actor_cpu_s

    def watch(self, subject: Any, name: str, *methods: str) -> None:
        """From now on measure these methods of an object."""
        for method in methods:
            setattr(subject, method, self._timed(name, getattr(subject, method)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            before = self.now()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += self.now() - before

        return timed


@dataclass(frozen=True)
class _Mark:
    cpu_s: float
    wall_s: float
    actor_cpu_s: float
    actor_wall_s: float
    labels: int
    candidates: int
    stages: dict[str, float]


def measure_cost(
    folder: Path,
    url: str,
    labels: int,
    seed: int,
    report: Callable[[float], None],
    sections: Mapping[str, Any] = SECTIONS,
) -> LoopCost:
    """Run a campaign of so many guided labels whose work takes no time. ``report`` takes the finished share."""
    stop = {"labels": labels, "baseline_labels": WARM_UP_LABELS}
    world = LoopWorld(folder, {**sections, "stop": stop}, url, seed)
    conductor, meter = world.conductor(), _Meter(world)
    marks: list[_Mark] = []
    for stage in (conductor.seeding, conductor.labelling, conductor.tracking, conductor.training):
        meter.watch(stage, stage.name, "offer", "accept")
    for part in (conductor.scoring, conductor.proposing):
        meter.watch(part, part.name, "offer", "accept")
    meter.watch(conductor.context.steering, "steering", "ask", "tell", "add_measured")

    def on_tick() -> None:
        done = conductor.labelling.guided_labels
        report(done / labels)
        if done >= WARM_UP_LABELS:
            marks[1:] = [_mark(world, conductor, meter)]

    conductor.run(on_tick)
    world.database.dispose()
    return _between(marks[0], marks[-1])


def _mark(world: LoopWorld, conductor: Conductor, meter: _Meter) -> _Mark:
    return _Mark(
        cpu_s=time.process_time(),
        wall_s=time.perf_counter(),
        actor_cpu_s=world.clock.actor_cpu_s,
        actor_wall_s=world.clock.actor_wall_s,
        labels=conductor.labelling.guided_labels,
        candidates=conductor.scoring.scored_guided,
        stages=dict(meter.seconds),
    )


def _between(first: _Mark, last: _Mark) -> LoopCost:
    labels = last.labels - first.labels
    ms = 1e3 / labels
    agents = last.actor_cpu_s - first.actor_cpu_s
    return LoopCost(
        labels=labels,
        candidates=last.candidates - first.candidates,
        driver_cpu_ms=ms * (last.cpu_s - first.cpu_s - agents),
        driver_wall_ms=ms * (last.wall_s - first.wall_s - (last.actor_wall_s - first.actor_wall_s)),
        ledger_cpu_ms=ms * agents,
        stages={name: ms * (last.stages[name] - first.stages.get(name, 0.0)) for name in last.stages},
    )


def bare_transaction(folder: Path, url: str, count: int) -> tuple[float, float]:
    """Processor and wall time, in ms, of a transaction that writes one row."""
    folder.mkdir()
    world = LoopWorld(folder, SECTIONS, url)
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(count):
        with world.database.begin() as session:
            add_event(session, world.campaign_id, "bench", {"number": number})
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    world.database.dispose()
    return 1e3 * cpu / count, 1e3 * wall / count


def optunas_own_storage(folder: Path, count: int) -> float:
    """Processor time in ms of telling Optuna of one label through its own storage, without asking it anything."""
    folder.mkdir()
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(0.0, 1.0) for name in ("density", "scale", "weight")
    }
    study = optuna.create_study(storage=f"sqlite:///{folder / 'optuna.db'}")
    cpu = time.process_time()
    for number in range(count):
        values = dict.fromkeys(distributions, number / count)
        study.add_trial(create_trial(params=values, distributions=distributions, value=values["scale"]))
    return 1e3 * (time.process_time() - cpu) / count

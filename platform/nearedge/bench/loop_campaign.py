"""A campaign by a made-up clock: how busy the labelers are, and how soon labels are of use.

The conductor, its stages, the ledger and the database are the real ones; only the work and its time are made up. What
the conductor itself takes is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sqlalchemy import select

from nearedge.bench.loop_world import LoopWorld
from nearedge.config import MODEL_KINDS
from nearedge.latency import Latency
from nearedge_agents.pool import Work
from nearedge_db.schema import CampaignStructure, Structure
from nearedge_db.states import ModelKind, TaskKind
from nearedge_db.store import pool_totals, totals_since_models

SECONDS = {
    "work": 60.0,
    "generate": 8.0,
    "score": 25.0,
    "predict": 4.0,
    "track": 1.0,
}
"""About what they take with GPAW on 64 atoms: a label, a batch of four, its relaxation, a new look, a record."""
TRAINING_S = 150.0
SPREAD = 0.25
"""Standard deviation of the logarithm of each time: nothing goes in step."""
SECTIONS = {
    "material": {"composition": "C64"},
    "seeds": {"count": 12},
    "pools": {
        "labeler": {"size": 4},
        "generator": {"size": 1},
        "scorer": {"size": 2},
        "trainer": {"size": 2},
    },
}


@dataclass
class Campaign:
    """Occupancies (pool -> share, over the whole run and since the models were there), latencies, re-scoring."""

    occupancy: dict[str, float]
    since_models: dict[str, float]
    latency: Latency
    latencies_s: list[float]
    new_models: int
    """Surrogates after the first."""
    rescored: int
    """How often all that waited was predicted again."""
    busy: list[tuple[float, int]]
    """(time in s, labelers with work) whenever it changes."""
    models_at_s: float


@dataclass
class Watcher:
    """What happens to labels and models, by the clock."""

    world: LoopWorld | None = None
    labelled: dict[int, float] = field(default_factory=dict)
    """Structure of a candidate -> when its label was finished."""
    learnt_from: dict[int, set[str]] = field(default_factory=dict)
    """Surrogate -> hashes of the structures that it was trained on."""
    first_scored: dict[int, float] = field(default_factory=dict)
    """Surrogate -> when a candidate was first scored by it."""
    rescored: int = 0

    def __call__(self, pool: str, work: Work) -> None:
        """Take note of a piece of work that has ended."""
        if self.world is None:
            return
        now, ledger = self.world.clock.now, self.world.ledger
        if pool == "scorer":
            self.first_scored.setdefault(work.args[-1].surrogate.model_id, now)
            self.rescored += work.method == "predict"
        if pool == "labeler":
            task = ledger.get(work.tag)
            if task.kind == TaskKind.LABEL and task.structure_id is not None:
                self.labelled[task.structure_id] = now
        if pool == "trainer" and work.method == "work":
            payload = ledger.get(work.tag).payload
            if payload["model_kind"] == ModelKind.SURROGATE:
                self.learnt_from[payload["model_id"]] = set(payload["train"])

    def latencies_s(self) -> tuple[list[float], int]:
        """From each label to its first use by a surrogate that learnt from it; how many labels are learnt from."""
        if self.world is None:
            return [], 0
        with self.world.database.session() as session:
            links = session.execute(
                select(Structure.id, Structure.hash)
                .join(CampaignStructure, CampaignStructure.structure_id == Structure.id)
                .where(~CampaignStructure.held_out, Structure.id.in_(self.labelled))
            ).all()
        used = {model: hashes for model, hashes in self.learnt_from.items() if model in self.first_scored}
        found = []
        for number, content_hash in links:
            uses = [self.first_scored[model] for model, hashes in used.items() if content_hash in hashes]
            if uses:
                found.append(min(uses) - self.labelled[number])
        return found, len(links)


def simulate(folder: Path, url: str, labels: int, seed: int, report: Callable[[float], None]) -> Campaign:
    """Run a campaign of so many guided labels, and a third as many of the baseline."""
    random, watcher = np.random.default_rng(seed), Watcher()

    def seconds(pool: str, work: Work) -> float:
        usual = TRAINING_S if (pool, work.method) == ("trainer", "work") else SECONDS[work.method]
        return usual * float(np.exp(random.normal(0.0, SPREAD)))

    world = LoopWorld(folder, {**SECTIONS, "stop": {"labels": labels}}, url, seed, seconds, watcher)
    watcher.world = world
    conductor = world.conductor()
    busy: list[tuple[float, int]] = []
    ready: list[float] = []

    def on_tick() -> None:
        busy.append((world.clock.now, len(conductor.pools["labeler"].under_way)))
        if not ready and conductor.context.champions.keys() >= set(MODEL_KINDS):
            ready.append(world.clock.now)
        report(conductor.labelling.guided_labels / labels)

    conductor.run(on_tick)
    latencies, learnt = watcher.latencies_s()
    with world.database.session() as session:
        whole, late = pool_totals(session, world.campaign_id), totals_since_models(session, world.campaign_id)
    world.database.dispose()
    names = list(conductor.pools)
    return Campaign(
        occupancy={name: whole[name].occupancy for name in names},
        since_models={name: late[name].occupancy for name in names},
        latency=Latency.of(latencies, learnt),
        latencies_s=latencies,
        new_models=len(watcher.learnt_from) - 1,
        rescored=watcher.rescored,
        busy=busy,
        models_at_s=ready[0],
    )

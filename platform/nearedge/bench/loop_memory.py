"""Memory of the driver against the candidates it has seen."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from nearedge.bench.loop_world import LoopWorld

MIB = 2**20
SAMPLES = 60
SETTLED = 0.25
"""Share of the run after which memory is looked at: before, caches fill."""
SELECTIVITY = 10.0
SECTIONS = {
    "material": {"composition": "C8"},
    "generation": {"batch": 50},
    "acquisition": {"selectivity": SELECTIVITY, "max_waiting": 100},
    "models": {"retrain_every": {"surrogate": 2000}},
}
"""One label for ten candidates, and few trainings, so that many candidates fit into minutes."""


def measure_memory(
    folder: Path, url: str, candidates: int, seed: int, report: Callable[[float], None]
) -> list[tuple[int, float]]:
    """(candidates so far, resident memory in MiB) of a campaign that scores so many; all in this process."""
    stop = {"labels": round(candidates / SELECTIVITY), "baseline_labels": 0}
    world = LoopWorld(folder, {**SECTIONS, "stop": stop}, url, seed)
    conductor, process = world.conductor(), psutil.Process()
    samples: list[tuple[int, float]] = []

    def on_tick() -> None:
        seen = conductor.scoring.scored_guided
        if seen >= len(samples) * candidates / SAMPLES:
            gc.collect()
            samples.append((seen, process.memory_info().rss / MIB))
            report(seen / candidates)

    conductor.run(on_tick)
    world.database.dispose()
    return samples


def growth_mib(samples: list[tuple[int, float]], candidates: int) -> float:
    """Growth in MiB over so many candidates: the slope of a line through the samples once all is warm."""
    last = samples[-1][0]
    late = np.array([sample for sample in samples if sample[0] >= SETTLED * last], dtype=float)
    slope = np.polyfit(late[:, 0], late[:, 1], 1)[0]
    return float(slope * candidates)

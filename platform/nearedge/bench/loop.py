"""The loop itself: what it costs for each label, what it keeps in memory, and how busy it keeps the labelers.

Nothing here computes anything: structures, spectra and models are invented (see `loop_world`), so all that is
measured is the conductor with its ledger and its database.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from nearedge.bench.base import BenchOptions, BenchResult, Report, Row
from nearedge.bench.loop_campaign import Campaign, simulate
from nearedge.bench.loop_cost import LoopCost, bare_transaction, measure_cost, optunas_own_storage
from nearedge.bench.loop_memory import growth_mib, measure_memory
from nearedge_db.database import url_of_run

MOST_MS = 5.0
"""Of the driver's processor time for each label task."""
LEAST_TASKS_PER_S = 200.0
MOST_GROWTH_MIB = 64.0
"""Of the driver's memory over `PER_CANDIDATES`."""
PER_CANDIDATES = 100_000
LEAST_OCCUPANCY = 0.95
TRANSACTIONS = 200
SIZES = (1_000, PER_CANDIDATES, 300)
"""Labels that are timed, candidates that pass through memory, guided labels of the campaign by the clock."""
SHORT_SIZES = (200, 5_000, 60)


class LoopBench:
    """Cost, memory and occupancy of the conductor."""

    name = "loop"

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        labels, candidates, simulated = SHORT_SIZES if options.short else SIZES
        with TemporaryDirectory(prefix="nearedge-bench-loop-") as name:
            folder = Path(name)
            campaign = simulate(
                *_new(folder, "campaign"), simulated, options.seed, _part(report, 0.0, 0.1, "occupancy")
            )
            cost = measure_cost(*_new(folder, "cost"), labels, options.seed, _part(report, 0.1, 0.3, "cost"))
            bare = bare_transaction(folder / "bare", url_of_run(folder / "bare"), TRANSACTIONS)
            optuna_ms = optunas_own_storage(folder / "optuna", TRANSACTIONS)
            samples = measure_memory(
                *_new(folder, "memory"), candidates, options.seed, _part(report, 0.4, 0.6, "memory")
            )
        growth = growth_mib(samples, PER_CANDIDATES)
        rows = [*cost_rows(cost, bare, optuna_ms), *memory_rows(growth, samples), *campaign_rows(campaign)]
        data = {"cost": asdict(cost), "memory": samples, "growth_mib": growth, "campaign": asdict(campaign)}
        return BenchResult(self.name, rows, data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.loop_picture import draw

        draw(result, path)


def _new(folder: Path, name: str) -> tuple[Path, str]:
    """A run directory and the address of its database."""
    (folder / name).mkdir()
    return folder / name, url_of_run(folder / name)


def _part(report: Report, first: float, share: float, what: str) -> Callable[[float], None]:
    return lambda done: report(first + share * min(done, 1.0), what)


def cost_rows(cost: LoopCost, bare: tuple[float, float], optuna_ms: float) -> list[Row]:
    """Time for each label task; baseline: what Optuna's own storage takes for its trial alone."""
    rows = [
        Row.at_most(
            "driver: processor time per label task", cost.driver_cpu_ms, MOST_MS, "ms", baseline=optuna_ms
        ),
        Row.at_least(
            "label tasks per second of one core", 1e3 / cost.driver_cpu_ms, LEAST_TASKS_PER_S, "1/s"
        ),
    ]
    rows += [Row.shown(f"… {name}", ms, "ms") for name, ms in sorted(cost.stages.items())]
    rows += [
        Row.shown("driver: wall time per label task, commits included", cost.driver_wall_ms, "ms"),
        Row.shown("labeler: lease and result of a label", cost.ledger_cpu_ms, "ms"),
        Row.shown("a transaction that writes one row: processor time", bare[0], "ms"),
        Row.shown("a transaction that writes one row: wall time", bare[1], "ms"),
    ]
    return rows


def memory_rows(growth: float, samples: list[tuple[int, float]]) -> list[Row]:
    """Growth of the resident memory, and its size at the end."""
    return [
        Row.at_most(f"driver: memory per {PER_CANDIDATES:,} candidates", growth, MOST_GROWTH_MIB, "MiB"),
        Row.shown(f"driver: memory after {samples[-1][0]:,} candidates", samples[-1][1], "MiB"),
    ]


def campaign_rows(campaign: Campaign) -> list[Row]:
    """Occupancies and latencies by the made-up clock."""
    latency = campaign.latency
    return [
        Row.at_least(
            "labelers occupied since the models were there",
            campaign.since_models["labeler"],
            LEAST_OCCUPANCY,
            baseline=campaign.occupancy["labeler"],
        ),
        Row.shown(
            "label to first candidate scored by a model that learnt from it: median", latency.p50_s, "s"
        ),
        Row.shown("… 95 %", latency.p95_s, "s"),
        Row.shown("… labels in use, of those that are learnt from", latency.used, "", latency.labels),
        Row.shown("surrogates after the first one", campaign.new_models),
        Row.shown("times all that waits was predicted again, by them or new potentials", campaign.rescored),
    ]

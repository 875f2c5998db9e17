"""The loop itself: what it costs for each label, what it keeps in memory, and how busy it keeps the labelers.

In all parts but one nothing is computed: structures, spectra and models are invented (see `loop_world`), so all that
is measured is the conductor with its ledger and its database. In the last part, which the short form leaves out, the
clock, the actors and the models are real (see `loop_real`).
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nearedge.bench.base import BenchOptions, BenchResult, Report, Row
from nearedge.bench.loop_campaign import Campaign, simulate
from nearedge.bench.loop_cost import LoopCost, bare_transaction, measure_cost, optunas_own_storage
from nearedge.bench.loop_memory import growth_mib, measure_memory
from nearedge.bench.loop_more import More, measure_more
from nearedge.bench.loop_real import LABEL_S, SIZE, RealCampaign, run_real
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
                *_new(folder, "campaign"), simulated, options.seed, _part(report, 0.0, 0.05, "occupancy")
            )
            cost = measure_cost(*_new(folder, "cost"), labels, options.seed, _part(report, 0.05, 0.1, "cost"))
            bare = bare_transaction(folder / "bare", url_of_run(folder / "bare"), TRANSACTIONS)
            optuna_ms = optunas_own_storage(folder / "optuna", TRANSACTIONS)
            more = measure_more(
                folder / "more", labels, options.seed, _part(report, 0.15, 0.15, "cost with other settings")
            )
            samples = measure_memory(
                *_new(folder, "memory"), candidates, options.seed, _part(report, 0.3, 0.3, "memory")
            )
        real = None
        if not options.short:
            real = run_real(
                SIZE, LABEL_S, options.seed, _part(report, 0.6, 0.4, "a campaign by the real clock")
            )
        growth = growth_mib(samples, PER_CANDIDATES)
        rows = [
            *cost_rows(cost, bare, optuna_ms),
            *more_rows(more, cost),
            *memory_rows(growth, samples),
            *campaign_rows(campaign),
            *([] if real is None else real_rows(real)),
        ]
        data = {
            "cost": asdict(cost),
            "more": asdict(more),
            "memory": samples,
            "growth_mib": growth,
            "campaign": asdict(campaign),
            "real": None if real is None else asdict(real),
        }
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
        Row.at_least(
            "label tasks per second of two cores, the labelers' leases and results included",
            1e3 / max(cost.driver_cpu_ms, 0.5 * (cost.driver_cpu_ms + cost.ledger_cpu_ms)),
            LEAST_TASKS_PER_S,
            "1/s",
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


def more_rows(more: More, cost: LoopCost) -> list[Row]:
    """What more than that takes; baseline: the same with the settings as they are, in SQLite."""
    named = {
        "batches of 16 and 8 labelers": more.larger,
        "PostgreSQL": more.on_server,
        "PostgreSQL, batches of 16 and 8 labelers": more.larger_on_server,
    }
    return [
        Row.shown(
            f"driver, with {name}: processor time per label task", one.driver_cpu_ms, "ms", cost.driver_cpu_ms
        )
        for name, one in named.items()
        if one is not None
    ]


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


def real_rows(real: RealCampaign) -> list[Row]:
    """Occupancies and latencies by the real clock; the baseline of an occupancy is that of the whole run."""
    pools, latency = real.pools, real.latency
    labeler = pools["labeler"]
    return [
        Row.at_least(
            "real clock: labelers occupied since the models were there",
            labeler.occupancy_since_models,
            LEAST_OCCUPANCY,
            baseline=labeler.occupancy,
        ),
        Row.shown("… processor seconds per second of a labeler", labeler.cpu_share),
        Row.shown("… a label takes: median", float(np.median(real.label_s)), "s", LABEL_S),
        *(
            Row.shown(
                f"… {name} occupied since then", pools[name].occupancy_since_models, "", pools[name].occupancy
            )
            for name in ("generator", "scorer", "trainer")
        ),
        Row.shown(
            "… label to first candidate scored by a model that learnt from it: median", latency.p50_s, "s"
        ),
        Row.shown("… 95 %", latency.p95_s, "s"),
        Row.shown("… labels in use, of those that are learnt from", latency.used, "", latency.labels),
    ]

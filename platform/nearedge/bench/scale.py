"""From 64 to 64,000 atoms: time, memory, and whether the structures are the same.

Every size is sampled in a process of its own. Small structures are sampled side by side, as `nearedge
generate` does. The paper's recipe is timed by a stand-in of the same form and size (see `paper_network`) on
the same core, without its search for neighbours, against whole structures of ours.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from nearedge.bench.base import BenchOptions, BenchResult, Report, Row
from nearedge.bench.local_order import COORDINATIONS, LocalOrder, difference, local_order, mean_and_error
from nearedge.bench.scale_task import DENSITY_G_CM3, ScaleRecord, ScaleTask, run_task

if TYPE_CHECKING:
    from nearedge_services.diffusion.prior import Prior

COUNTS = {64: 48, 216: 16, 1000: 4, 8000: 1, 64000: 1}
"""Structures of each number of atoms."""
SHORT_COUNTS = {64: 16, 216: 4, 1000: 1}
PAPER_ATOMS = 216
FLAT = 1.5
FASTER = 5.0
MOST_SECONDS = 1200.0
MOST_GIB = 16.0
LARGE = 64000
G_R_ERRORS = 2.0
"""g(r) of two sizes agrees within so many standard errors (root mean square over all distances)."""
SHARE_ERRORS = 3.0
"""The same for the worst of the three coordination shares."""


class ScaleBench:
    """Time and memory per atom, g(r) and coordination against the number of atoms."""

    name = "scale"

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`. Leaves the structures beside the result, as scale-<atoms>.extxyz."""
        from nearedge_services.diffusion.prior import Prior

        folder = options.model("prior", ["C"])
        prior = Prior.load(folder)
        report(0.0, "the paper's recipe")
        paper = against_paper(prior, options.seed)
        counts = SHORT_COUNTS if options.short else COUNTS
        records, orders = [], {}
        for n_atoms, count in counts.items():
            records.append(_sampled(folder, n_atoms, count, options, report, _share_before(counts, n_atoms)))
            orders[n_atoms] = local_order(_structures(options.out, n_atoms))
        rows = [*cost_rows(records, options.threads), *paper_rows(paper), *order_rows(orders)]
        data = {
            "density_g_cm3": DENSITY_G_CM3,
            "sizes": [asdict(record) | derived(record, options.threads) for record in records],
            "paper": paper,
            "radii_a": LocalOrder.radii(),
            "order": {n_atoms: _order_data(order) for n_atoms, order in orders.items()},
        }
        return BenchResult(self.name, rows, data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.scale_picture import draw

        draw(result, path)


def _sampled(
    folder: Path, n_atoms: int, count: int, options: BenchOptions, report: Report, before: tuple[float, float]
) -> ScaleRecord:
    """One size, sampled; before: shares of the whole work that are done before and after it."""
    from nearedge_services.diffusion.settings import SamplerSettings

    settings = SamplerSettings()
    batches = -(-count * n_atoms // max(settings.max_atoms_per_batch, n_atoms))
    first, last = before

    def at(evaluations: int) -> None:
        share = min(evaluations / (settings.steps * batches), 1.0)
        report(first + (last - first) * share, f"{count} × {n_atoms:,} atoms")

    report(first, f"{count} × {n_atoms:,} atoms")
    with TemporaryDirectory() as temporary:
        task = ScaleTask(
            prior=str(folder),
            n_atoms=n_atoms,
            count=count,
            steps=settings.steps,
            seed=options.seed,
            threads=options.threads,
            structures=str(_structure_file(options.out, n_atoms)),
            record=str(Path(temporary) / "record.json"),
        )
        return run_task(task, at)


def _structure_file(out: Path, n_atoms: int) -> Path:
    return out / f"scale-{n_atoms}.extxyz"


def _structures(out: Path, n_atoms: int) -> list[Any]:
    from nearedge_services.structures.extxyz import read_structures

    return list(read_structures(_structure_file(out, n_atoms)))


def _share_before(counts: dict[int, int], n_atoms: int) -> tuple[float, float]:
    """Shares of the work done before and after the structures of one size."""
    total = sum(size * count for size, count in counts.items())
    before = sum(size * count for size, count in counts.items() if size < n_atoms)
    return before / total, (before + n_atoms * counts[n_atoms]) / total


def against_paper(prior: "Prior", seed: int) -> dict[str, float]:
    """Processor seconds of one structure by our recipe and by the paper's, on one thread, in turns."""
    import torch

    from nearedge.bench.paper_network import EVALUATIONS, PaperNetwork, edges_of
    from nearedge_services.diffusion.sampler import SamplerSettings, empty_cells, sample
    from nearedge_services.structures.composition import parse_composition

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = SamplerSettings()
    cells = empty_cells(parse_composition(f"C{PAPER_ATOMS}"), [DENSITY_G_CM3])
    finished = sample(prior, cells, settings, [seed])  # also warms up
    edges = edges_of(prior.batch(finished))
    network, level = PaperNetwork(seed), torch.full((PAPER_ATOMS, 1), 0.2)
    network(level, *edges)
    ours = theirs = 0.0
    for _ in range(2):
        started = time.process_time()
        for _ in range(EVALUATIONS // 2):
            network(level, *edges)
        theirs += time.process_time() - started
        started = time.process_time()
        sample(prior, cells, settings, [seed])
        ours += (time.process_time() - started) / 2
    torch.set_num_threads(threads)
    return {
        "atoms": PAPER_ATOMS,
        "ours_s": ours,
        "paper_s": theirs,
        "ratio": theirs / ours,
        "ours_evaluations": settings.steps,
        "paper_evaluations": EVALUATIONS,
        "paper_edges_per_atom": len(edges[0]) / PAPER_ATOMS,
        "ours_us_per_atom_evaluation": 1e6 * ours / PAPER_ATOMS / settings.steps,
        "paper_us_per_atom_evaluation": 1e6 * theirs / PAPER_ATOMS / EVALUATIONS,
    }


def derived(record: ScaleRecord, threads: int) -> dict[str, float]:
    """Figures per structure and per atom."""
    # other programs on the machine do not show in processor time; waiting threads do
    seconds = record.cpu_s if threads == 1 else record.wall_s
    return {
        "seconds_per_structure": record.wall_s / record.count,
        "us_per_atom_evaluation": 1e6 * seconds / record.atom_evaluations,
        "evaluations_per_structure": record.atom_evaluations / record.n_atoms / record.count,
        "kib_per_atom": record.kib_per_atom,
        "peak_gib": record.peak_bytes / 2**30,
    }


def cost_rows(records: Sequence[ScaleRecord], threads: int) -> list[Row]:
    """Seconds, µs and memory of every size, their flatness, and the limits of the largest."""
    rows = []
    figures = {record.n_atoms: derived(record, threads) for record in records}
    kind = ", one core" if threads == 1 else f", {threads} threads"
    for record in records:
        size = f"{record.n_atoms:,} atoms"
        found = figures[record.n_atoms]
        rows.append(Row.shown(f"{size}: one structure", found["seconds_per_structure"], "s"))
        rows.append(
            Row.shown(f"{size}: per atom and evaluation{kind}", found["us_per_atom_evaluation"], "µs")
        )
        rows.append(Row.shown(f"{size}: memory per atom of a batch", found["kib_per_atom"], "KiB"))
        if record.alone_s is not None:
            rows.append(Row.shown(f"{size}: one structure by itself, one core", record.alone_s, "s"))
    times = [found["us_per_atom_evaluation"] for found in figures.values()]
    memories = [figures[size]["kib_per_atom"] for size in sorted(figures)]
    rows.append(Row.at_most("time per atom, slowest over fastest size", max(times) / min(times), FLAT, "×"))
    growth = memories[-1] / max(min(memories[:-1]), 1.0)  # less than a KiB is not measurable
    rows.append(Row.at_most("memory per atom, largest size over least of the others", growth, FLAT, "×"))
    evaluations = max(found["evaluations_per_structure"] for found in figures.values())
    rows.append(Row.shown("evaluations of the network per structure", evaluations))
    if LARGE in figures:
        seconds, gib = figures[LARGE]["seconds_per_structure"], figures[LARGE]["peak_gib"]
        rows.append(Row.at_most(f"{LARGE:,} atoms, {threads} threads: time", seconds, MOST_SECONDS, "s"))
        rows.append(Row.at_most(f"{LARGE:,} atoms: peak memory of the process", gib, MOST_GIB, "GiB"))
    return rows


def paper_rows(paper: dict[str, float]) -> list[Row]:
    """Ours beside the paper's recipe; baseline: the paper's."""
    what = f"{PAPER_ATOMS} atoms, one core"
    return [
        Row.shown(f"{what}: one structure", paper["ours_s"], "s", baseline=paper["paper_s"]),
        Row.shown(
            f"{what}: per atom and evaluation",
            paper["ours_us_per_atom_evaluation"],
            "µs",
            baseline=paper["paper_us_per_atom_evaluation"],
        ),
        Row.at_least(f"{what}: faster than the paper's recipe by", paper["ratio"], FASTER, "×", baseline=1.0),
    ]


def order_rows(orders: dict[int, LocalOrder]) -> list[Row]:
    """g(r) and coordination of every size against those of the smallest; baseline: the standard error."""
    smallest = min(orders)
    rows = []
    for n_atoms in sorted(set(orders) - {smallest}):
        against = f"{n_atoms:,} against {smallest} atoms"
        gap, error = (_rms(part) for part in difference(orders[n_atoms].g_r, orders[smallest].g_r))
        rows.append(Row.at_most(f"g(r), {against}: RMS difference", gap, G_R_ERRORS * error, "", error))
        gaps, errors = difference(orders[n_atoms].shares, orders[smallest].shares)
        worst = int(np.argmax(gaps / errors.clip(min=1e-9)))
        what = f"{COORDINATIONS[worst]}-fold share, {against}: difference"
        limit = 100 * SHARE_ERRORS * float(errors[worst])
        rows.append(
            Row.at_most(what, 100 * float(gaps[worst]), limit, "points", baseline=100 * float(errors[worst]))
        )
    return rows


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _order_data(order: LocalOrder) -> dict[str, Any]:
    g_r, g_r_error = mean_and_error(order.g_r)
    shares, share_errors = mean_and_error(order.shares)
    return {
        "samples": len(order.shares),
        "g_r": g_r,
        "g_r_error": g_r_error,
        "shares": dict(zip(COORDINATIONS, shares, strict=True)),
        "share_errors": dict(zip(COORDINATIONS, share_errors, strict=True)),
    }

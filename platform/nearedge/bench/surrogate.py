"""Bench ``surrogate``: spectra predicted against spectra computed, on structures no training has seen.

Networks at densities inside and outside the training's, displaced copies of them, and structures as the prior
makes them, guided and unguided: what a campaign's labels are. Errors stand beside those of two baselines that
need no geometry or hardly any: the mean over all training atoms and over equally coordinated ones.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from nearedge.bench.base import BenchOptions, BenchResult, Report
from nearedge.bench.guides import Guides
from nearedge.bench.references import References, Wanted
from nearedge.bench.surrogate_rows import Lot, rows
from nearedge.bench.workshop import ELEMENT, Stages, Workshop, left_out_bands
from nearedge_db.errors import UserError
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.spectra.labelled import label_spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.surrogate.surrogate import Surrogate


@dataclass(frozen=True)
class SurrogateBenchSettings:
    """How much is measured."""

    atoms: int = 64
    densities_g_cm3: tuple[float, ...] = (1.5, 2.0, 2.25, 2.5, 3.0, 3.5)
    networks: int = 4
    """At each density."""
    rattle_a: tuple[float, ...] = (0.04, 0.1)
    """Standard deviations of displacements, Å; one copy of every network with each."""
    generated: int = 16
    """Unguided structures, and as many guided ones."""
    sigmas_a: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """Noise levels (Å) at which the noise-aware network is measured."""
    refit: bool = True
    """Whether coverage is measured after a training that goes on with labels of generated structures."""
    timings: int = 7
    quench: QuenchSettings = field(default_factory=QuenchSettings)


SHORT = SurrogateBenchSettings(
    atoms=32,
    densities_g_cm3=(2.0, 2.25, 2.6, 3.0),
    networks=1,
    rattle_a=(0.07,),
    generated=2,
    sigmas_a=(0.1, 0.3),
    refit=False,
    timings=3,
    quench=QuenchSettings(hold_steps=50, quench_steps=150, relax_steps=60),
)


class SurrogateBench:
    """Errors, coverage and speed of the surrogate."""

    name = "surrogate"

    def __init__(self, settings: SurrogateBenchSettings | None = None) -> None:
        self.settings = settings

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        settings = self.settings or (SHORT if options.short else SurrogateBenchSettings())
        folder = options.model("surrogate", [ELEMENT])
        surrogate = Surrogate.load(folder)
        workshop = Workshop(options)
        if surrogate.grid != workshop.oracle.grid:
            raise UserError(
                "the surrogate was trained on another oracle's energies",
                got=surrogate.grid,
                fix=f"name one trained on {workshop.oracle.name}: {workshop.oracle.grid}",
            )
        stages = Stages(report, {"networks": 8, "labels": 2, "generated": 5, "errors": 1, "refit": 3})
        bands = left_out_bands(folder)
        lots = _lots(settings, workshop, surrogate, bands, stages)
        stages.begin("errors")
        measured = {lot.name: lot.measure(surrogate) for lot in lots.values() if lot.structures}
        noise = _noise(
            surrogate, [*lots["seen"].structures, *lots["left"].structures], settings, options.seed
        )
        speed = _speed(surrogate, (lots["seen"].structures or lots["left"].structures)[0], settings.timings)
        stages.begin("refit")
        refitted = _refitted(surrogate, lots, options.seed, stages.at) if settings.refit else None
        data = {
            "lots": measured,
            "noise": noise,
            "milliseconds": speed,
            "refitted": refitted,
            "left_out_g_cm3": bands,
            "example": _example(surrogate, lots),
        }
        return BenchResult(self.name, rows(measured, noise, speed, refitted), data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.surrogate_picture import draw

        draw(result, path)


def _lots(
    settings: SurrogateBenchSettings,
    workshop: Workshop,
    surrogate: Surrogate,
    bands: Sequence[tuple[float, float]] | None,
    stages: Stages,
) -> dict[str, Lot]:
    """The structures by where they come from, all labelled."""
    stages.begin("networks")
    networks = _networks(settings, workshop, stages.at)
    stages.begin("labels")
    rattled = [
        copy
        for number, atoms in enumerate(networks)
        for copy in _rattled(atoms, settings.rattle_a, [workshop.options.seed, number])
    ]
    rattled = workshop.label(
        rattled, lambda done: stages.at(done / max(len(rattled), 1), f"{done} displaced")
    )
    stages.begin("generated")
    generated = _generated(settings, workshop, surrogate, networks, stages.at)
    left = [atoms for atoms in networks if _inside(atoms, bands)]
    seen = [atoms for atoms in networks if not _inside(atoms, bands)]
    return {
        "seen": Lot("networks at densities of the training", seen),
        "left": Lot("networks at densities left out of training", left),
        "rattled": Lot("displaced networks", rattled),
        "generated": Lot("generated, unguided and guided", generated),
    }


def _networks(
    settings: SurrogateBenchSettings, workshop: Workshop, at: Callable[[float, str], None]
) -> list[Atoms]:
    """Independent labelled networks, each a group of its own."""
    references = References(workshop, settings.quench)
    if references.given is None:
        wishes = [Wanted(settings.atoms, d, settings.networks) for d in settings.densities_g_cm3]
        references.make(wishes, at)
        chosen = [atoms for wish in wishes for atoms in references.find(wish)]
    else:
        chosen = references.known
    labelled = references.label([atoms.copy() for atoms in chosen])
    if not labelled:
        raise UserError("no reference structure could be labelled", got=references.source, fix="give others")
    for number, atoms in enumerate(labelled):
        atoms.info["group"] = str(atoms.info.get("group", f"network-{number}"))
    return labelled


def _inside(atoms: Atoms, bands: Sequence[tuple[float, float]] | None) -> bool:
    """Whether no training saw this density; of models that do not say, none saw these networks."""
    return any(low <= density_g_cm3(atoms) <= high for low, high in bands or ())


def _rattled(atoms: Atoms, sizes_a: Sequence[float], seed: list[int]) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    copies = []
    for size in sizes_a:
        copy = Atoms(atoms.numbers, cell=atoms.cell, pbc=True, positions=atoms.positions)
        copy.positions += rng.normal(0, size, copy.positions.shape)
        copy.info["group"] = atoms.info["group"]
        copies.append(copy)
    return copies


def _generated(
    settings: SurrogateBenchSettings,
    workshop: Workshop,
    surrogate: Surrogate,
    networks: Sequence[Atoms],
    at: Callable[[float, str], None],
) -> list[Atoms]:
    """Raw structures of the prior, half of them guided to the spectrum of another density."""
    ordered = sorted(networks, key=density_g_cm3)
    guides = Guides(workshop.prior, surrogate)
    kind = guides.best
    structures: list[Atoms] = []
    for name, aim, density in (
        ("unguided", None, density_g_cm3(ordered[len(ordered) // 2])),
        ("guided", ordered[-1], density_g_cm3(ordered[0])),
    ):
        at(0.5 * (aim is not None), name)
        target = None if aim is None else _target(aim, workshop)
        guidance = None if target is None else guides.make(kind, target, guides.scale(kind))
        cells = workshop.cells(settings.atoms, [density] * settings.generated)
        made = workshop.sample(cells, f"surrogate-{name}", guidance=guidance).structures
        for number, atoms in enumerate(made):
            atoms.info["group"] = f"{name}-{number}"
        structures += workshop.label(made)
    return structures


def _target(network: Atoms, workshop: Workshop) -> Target:
    return Target.from_spectrum(label_spectrum([network], ELEMENT), workshop.oracle.grid, ELEMENT)


def _noise(
    surrogate: Surrogate, networks: Sequence[Atoms], settings: SurrogateBenchSettings, seed: int
) -> list[dict[str, float]] | None:
    """RMS error of the clean cell means expected from noisy positions, 1/eV; None without such a network."""
    if surrogate.network.noisy is None or not networks:
        return None
    true = np.array([label_spectrum([atoms], ELEMENT).intensity for atoms in networks])
    true /= (true @ surrogate.grid.weights)[:, None]
    spread = float(np.sqrt(np.mean((true - true.mean(0)) ** 2)))
    batch = surrogate.batch(networks)
    table = []
    for sigma in settings.sigmas_a:
        noise = torch.randn(batch.positions.shape, generator=torch.Generator().manual_seed(seed))
        moved = batch.with_positions(batch.positions + sigma * noise)
        with torch.no_grad():
            means = surrogate.noisy_cell_means(moved, torch.full((len(networks),), sigma), ELEMENT)
        error = float(np.sqrt(np.mean((means.numpy() - true) ** 2)))
        table.append({"sigma_a": sigma, "cell_mean_rmse": error, "cell_mean_spread": spread})
    return table


def _speed(surrogate: Surrogate, atoms: Atoms, count: int) -> dict[str, float | None]:
    """Median milliseconds for one structure: a prediction, and each gradient that guidance takes."""
    target = Target.from_spectrum(label_spectrum([atoms], ELEMENT), surrogate.grid, ELEMENT)
    batch, sigma = surrogate.batch([atoms]), torch.tensor([0.2])

    def gradient(value: Callable[[Any], torch.Tensor]) -> None:
        positions = batch.positions.clone().requires_grad_()
        torch.autograd.grad(value(batch.with_positions(positions)).sum(), positions)

    tasks: dict[str, Callable[[], object] | None] = {
        "prediction": lambda: surrogate.predict([atoms], target),
        "gradient": lambda: gradient(lambda moved: surrogate.mismatch(moved, target)),
        "noise_aware_gradient": None,
    }
    if surrogate.network.noisy is not None:
        tasks["noise_aware_gradient"] = lambda: gradient(
            lambda moved: surrogate.noisy_mismatch(moved, sigma, target)
        )
    times = {name: None if task is None else _median_ms(task, count) for name, task in tasks.items()}
    return {"atoms": len(atoms), **times}


def _median_ms(task: Callable[[], object], count: int) -> float:
    task()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return 1e3 * float(np.median(times))


def _refitted(
    surrogate: Surrogate, lots: dict[str, Lot], seed: int, at: Callable[[float, str], None]
) -> dict[str, Any]:
    """Measures on generated structures after a training that went on with labels of others of them.

    A third is learnt, a third held out for the calibration, and a third judged; the networks go with them in
    thirds of their own.
    """
    from nearedge_services.surrogate.training import train_surrogate

    parts: list[list[Atoms]] = [[], [], []]
    for lot in (lots["generated"].structures, [*lots["seen"].structures, *lots["left"].structures]):
        for number, atoms in enumerate(lot):
            parts[number % 3].append(atoms)
    judged = [atoms for atoms in parts[2] if "guided" in str(atoms.info["group"])]
    if not (parts[0] and parts[1] and judged):
        return {}
    again, _ = train_surrogate(
        parts[0],
        parts[1],
        surrogate.settings,
        seed,
        initial=surrogate,
        progress=lambda share, _: at(share, "learning"),
    )
    return Lot("generated, after learning from others", judged).measure(again)


def _example(surrogate: Surrogate, lots: dict[str, Lot]) -> dict[str, Any]:
    """Cell mean of one network at a left-out density (or any), predicted and computed, 1/eV."""
    atoms = (lots["left"].structures or lots["seen"].structures)[0]
    true = label_spectrum([atoms], ELEMENT)
    target = Target.from_spectrum(true, surrogate.grid, ELEMENT)
    prediction = surrogate.predict([atoms], target)[0]
    return {
        "density_g_cm3": density_g_cm3(atoms),
        "energies_ev": surrogate.grid.energies,
        "true": target.intensity,
        "predicted": prediction.cell_mean,
        "std": prediction.cell_mean_std,
    }

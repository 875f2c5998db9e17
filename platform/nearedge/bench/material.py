"""Bench ``material``: a second material, from nothing, by the same code.

The pretraining pipeline makes amorphous silicon, trains its models on it, and the structures they generate are
compared with networks that the pipeline made with seeds of their own. Everything that is finished stays in
``OUT/material-Si``: a second run goes on from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import BenchOptions, BenchResult, Report
from nearedge.bench.material_rows import MaterialPoint, contact_limit_a, material_rows
from nearedge.bench.workshop import Stages, Workshop, oracle_energies
from nearedge_db.errors import UserError
from nearedge_services.diffusion.sampler import random_start
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.pretraining.frames import networks
from nearedge_services.pretraining.jobs import PotentialQuenches
from nearedge_services.pretraining.materials import material_values
from nearedge_services.pretraining.parallel import run_jobs
from nearedge_services.pretraining.pipeline import potential_folder, pretrain
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.refinement import Anneal, RefinementSettings
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.extxyz import read_structures
from nearedge_services.structures.material import Scales

_STAGES = {"pretraining": 65, "references": 12, "structures": 23}
_PIPELINE = (
    "first networks",
    "hot frames",
    "potential",
    "networks",
    "prior and potential",
    "generated",
    "surrogate",
)


@dataclass(frozen=True)
class MaterialSettings:
    """How much is made and measured; ``changes`` to the pipeline's settings for the unit."""

    unit: str = "Si"
    densities_g_cm3: tuple[float, ...] = (2.15, 2.3, 2.45)
    atoms: int = 64
    references: int = 6
    generated: int = 24
    refined: int = 24
    """Of those, how many are refined and labelled, at each density."""
    random: int = 2
    """Random starts that are refined in the same way, at each density."""
    changes: Mapping[str, Any] = field(default_factory=lambda: dict(FULL))

    def pretraining(self, seed: int) -> PretrainingSettings:
        """The pipeline's settings."""
        values = material_values(self.unit)
        for key, value in self.changes.items():
            values[key] = _merged(values.get(key, {}), value)
        return PretrainingSettings.model_validate({**values, "seed": seed})


def _merged(before: Any, value: Any) -> Any:
    """The value, or where both are mappings the one before with its keys changed, at every depth."""
    if not (isinstance(before, Mapping) and isinstance(value, Mapping)):
        return value
    return {**before, **{key: _merged(before.get(key), part) for key, part in value.items()}}


FULL: dict[str, Any] = {
    "density_g_cm3": (2.0, 2.6),
    "left_out_g_cm3": ((2.25, 2.35),),
    "first_networks": 6,
    "first": {"relax_steps": 5, "path_frames": 1, "rattle_a": (0.2,)},
    "hot_networks": 3,
    "hot_frames": 5,
    "rounds": 0,
    "network_atoms": 32,
    "networks": 24,
    "network_quench": {"quench_steps": 500, "hold_steps": 50, "relax_steps": 60},
    "network_anneal": None,
    "polish": {"relax_steps": 0, "path_frames": 0},
    "rattle_a": (),
    "batch": 16,
    "generated": 0,
    "held_out_every": 5,
    "potential": {"cutoff_a": 4.8, "steps": 300},
    "models": {
        "prior": {"n_scalar": 48, "n_vector": 16, "steps": 2000, "spectrum_components": 0, "ema": 0.998},
        "surrogate": {"steps": 10, "members": 2, "noise_aware_steps": 0},
        "potential": {"cutoff_a": 4.8, "steps": 250, "members": 1, "bootstrap": False},
    },
}
"""Silicon in cells of 32 atoms; the potential sees second neighbours (3.8 Å), by two messages third ones. Networks
and references are at rest in the potential, not in the oracle."""

SHORT = MaterialSettings(
    densities_g_cm3=(2.15, 2.3),
    atoms=32,
    references=6,
    generated=24,
    refined=24,
    random=1,
    changes={
        **FULL,
        "first_networks": 4,
        "first": {"relax_steps": 3, "path_frames": 1, "rattle_a": (0.2,)},
        "hot_networks": 2,
        "hot_frames": 4,
        "networks": 12,
        "network_quench": {"quench_steps": 300, "hold_steps": 20, "relax_steps": 40},
        "potential": {"cutoff_a": 4.8, "steps": 150},
        "models": {
            "prior": {"n_scalar": 48, "n_vector": 16, "steps": 700, "spectrum_components": 0, "ema": 0.995},
            "surrogate": {"steps": 5, "members": 2, "noise_aware_steps": 0},
            "potential": {"cutoff_a": 4.8, "steps": 150, "members": 1, "bootstrap": False},
        },
    },
)


class MaterialBench:
    """Quality of unguided structures of a material for which no models come with the program."""

    name = "material"

    def __init__(self, settings: MaterialSettings | None = None) -> None:
        self.settings = settings

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        for name, given in (("--model", options.models), ("--reference", options.reference)):
            if given is not None:
                raise UserError(
                    "this bench makes its own models and references", got=name, fix=f"leave {name} out"
                )
        settings = self.settings or (SHORT if options.short else MaterialSettings())
        stages = Stages(report, _STAGES)
        made = _Made(settings, options)
        record = made.train(stages)
        references = made.references(stages)
        workshop = made.workshop()
        points = _Measurement(settings, workshop, references, stages).points()
        data = {
            "unit": settings.unit,
            "pretraining": record["settings"],
            "metrics": record["metrics"],
            "networks": record["networks"],
            "contact_limit_a": contact_limit_a(settings.unit),
            "points": [point.record() for point in points],
        }
        rows = material_rows(points, record["metrics"], settings.unit)
        return BenchResult(self.name, rows, data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.material_picture import draw

        draw(result, path)


class _Made:
    """What the pipeline makes, in a folder that is continued."""

    def __init__(self, settings: MaterialSettings, options: BenchOptions) -> None:
        self.settings = settings
        self.options = options
        self.pretraining = settings.pretraining(options.seed)
        form = "-short" if options.short else ""  # the two forms must not continue one another
        self.folder = options.out / f"material-{settings.unit}{form}"

    def train(self, stages: Stages) -> dict[str, Any]:
        """Networks, labels and models; the pipeline's record."""
        stages.begin("pretraining")
        return pretrain(self.folder, self.pretraining, self.options.threads, _told(stages, _PIPELINE))

    def references(self, stages: Stages) -> dict[float, list[Atoms]]:
        """Networks by density, made as those of the training, from seeds of their own."""
        stages.begin("references")
        settings, chosen = self.pretraining, self.settings
        jobs = [
            PotentialQuenches(
                self.folder / "references" / f"{chosen.atoms}-{density:g}-{chosen.references}.extxyz",
                settings.model_copy(update={"rattle_a": ()}),
                settings.network_quench,
                potential_folder(self.folder, settings.rounds),
                chosen.atoms,
                (density,) * chosen.references,
                tuple(settings.seed + 200_000 + 100 * number + k for k in range(chosen.references)),
                "reference",
                final=True,
            )
            for number, density in enumerate(chosen.densities_g_cm3)
        ]
        run_jobs("references", jobs, self.options.threads, _told(stages, ("references",)))
        found = {}
        for job, density in zip(jobs, chosen.densities_g_cm3, strict=True):
            found[density] = networks(read_structures(job.path)) if job.path.stat().st_size else []
            if len(found[density]) < 2:
                raise UserError(
                    "too few reference networks could be made",
                    got=f"{len(found[density])} at {density:g} g/cm³",
                    fix="take another seed or folder",
                )
        return found

    def workshop(self) -> Workshop:
        """The models, refining at temperatures of the material."""
        scales = Scales.of(parse_composition(self.settings.unit))
        anneal = Anneal().scaled(scales.temperature)
        return Workshop(
            replace(self.options, models=self.folder / "models"),
            RefinementSettings(anneal=anneal),
            unit=self.settings.unit,
        )


def _told(stages: Stages, names: tuple[str, ...]) -> Callable[[str, int, int], None]:
    """Turns the pipeline's reports into a share of the current stage."""

    def report(name: str, done: int, total: int) -> None:
        kind = name.split(" ", maxsplit=1)[0] if name.startswith(("potential", "round")) else name
        place = names.index(kind) if kind in names else names.index("potential")
        stages.at((place + done / max(total, 1)) / len(names), name)

    return report


class _Measurement:
    """Generates, refines and labels at every density."""

    def __init__(
        self,
        settings: MaterialSettings,
        workshop: Workshop,
        references: Mapping[float, list[Atoms]],
        stages: Stages,
    ) -> None:
        self.settings = settings
        self.workshop = workshop
        self.references = references
        self.stages = stages

    def points(self) -> list[MaterialPoint]:
        """One for each density."""
        self.stages.begin("structures")
        return [self.point(number, density) for number, density in enumerate(self.settings.densities_g_cm3)]

    def point(self, number: int, density: float) -> MaterialPoint:
        """Everything at one density; references and random starts are refined as generated structures are."""
        settings, workshop = self.settings, self.workshop
        self.at(number, 0.0, f"{density:g} g/cm³, generation")
        cells = workshop.cells(settings.atoms, [density] * settings.generated)
        sampled = workshop.sample(cells, f"{density:g}")
        self.at(number, 0.1, f"{density:g} g/cm³, refinement")
        raw, seeds = sampled.structures[: settings.refined], sampled.seeds[: settings.refined]
        refined = workshop.refine(raw, seeds)
        made = self.references[density]
        rested = [one.atoms for one in workshop.refine(made, range(len(made)))]
        starts = self.random_starts(cells[: settings.random], f"random-{density:g}")
        random = [one.atoms for one in workshop.refine(starts, range(len(starts)))]
        self.at(number, 0.6, f"{density:g} g/cm³, labels")
        return MaterialPoint(
            density_g_cm3=density,
            left_out=settings.pretraining(workshop.options.seed).left_out(density),
            raw=sampled.structures,
            failures=sampled.failures,
            seconds=sampled.seconds,
            refined=[one.atoms for one in refined],
            displacements_a=[one.rms_displacement_a for one in refined],
            reference=made,
            rested=rested,
            start=starts,
            random=random,
            energies={
                "raw": self.energies(raw),
                "refined": self.energies([one.atoms for one in refined]),
                "reference": oracle_energies(made),
                "rested": self.energies(rested),
            },
        )

    def at(self, number: int, share: float, what: str) -> None:
        """Say how far the density with this number is."""
        self.stages.at((number + share) / len(self.settings.densities_g_cm3), what)

    def random_starts(self, cells: list[Atoms], name: str) -> list[Atoms]:
        """What sampling starts from."""
        generators = [np.random.default_rng(seed) for seed in self.workshop.seeds(name, len(cells))]
        return [
            random_start(cell, SamplerSettings(), rng) for cell, rng in zip(cells, generators, strict=True)
        ]

    def energies(self, structures: list[Atoms]) -> list[float]:
        """The oracle's, eV per atom; structures that it cannot calculate are left out."""
        return oracle_energies(self.workshop.label(structures))

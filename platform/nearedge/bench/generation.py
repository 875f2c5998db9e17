"""Bench ``generation``: how good unguided structures are, raw and refined.

At every size and density, structures are generated, refined and compared with independent networks of the
same density. Single structures are compared with single structures (see `structures.agreement`), so neither the
number generated nor the number of references flatters; how large the systematic part is stands beside it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import BenchOptions, BenchResult, Report
from nearedge.bench.generation_rows import LIMIT_CONTACT_A, Point, evaluation_rows, quality_rows
from nearedge.bench.memorisation import MemorySettings, memorisation
from nearedge.bench.references import References, Wanted
from nearedge.bench.workshop import Stages, Workshop, left_out_bands, oracle_energies
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.structures.agreement import compare_curves, coordination_shares, radial_curves
from nearedge_services.structures.coordination import shortest_contact

LARGEST_LABELLED = 100
"""Structures with more atoms are judged by the potential: the oracle's cost grows with the cube."""


@dataclass(frozen=True)
class GenerationSettings:
    """How much is measured."""

    densities_g_cm3: tuple[float, ...] = (1.5, 2.0, 2.25, 2.5, 3.0, 3.5)
    raw: tuple[tuple[int, int], ...] = ((64, 40), (216, 8))
    """Size and how many raw structures at each density."""
    refined: tuple[tuple[int, int], ...] = ((64, 8), (216, 4))
    """Of those, how many are refined and get energies."""
    references: tuple[tuple[int, int], ...] = ((64, 4), (216, 2))
    evaluations: tuple[int, ...] = (25, 50, 100, 200, 400)
    evaluations_densities_g_cm3: tuple[float, ...] = (2.5, 3.0)
    evaluations_count: int = 8
    quench: QuenchSettings = field(default_factory=QuenchSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)


SHORT = GenerationSettings(
    densities_g_cm3=(2.5, 3.0),
    raw=((64, 4),),
    refined=((64, 2),),
    references=((64, 2),),
    evaluations=(25, 100),
    evaluations_densities_g_cm3=(2.5,),
    evaluations_count=2,
    quench=QuenchSettings(hold_steps=50, quench_steps=150, relax_steps=60),
    memory=MemorySettings(generated=6),
)


class GenerationBench:
    """Quality of unguided structures."""

    name = "generation"

    def __init__(self, settings: GenerationSettings | None = None) -> None:
        self.settings = settings

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        settings = self.settings or (SHORT if options.short else GenerationSettings())
        workshop = Workshop(options)
        references = References(workshop, settings.quench)
        if options.reference is not None:
            settings = replace(settings, densities_g_cm3=_covered(settings, references))
        stages = Stages(
            report, {"references": 8, "generation": 6, "refinement": 8, "evaluations": 2, "memory": 4}
        )
        points = _points(settings, workshop, references, stages)
        table = _evaluations(settings, workshop, references, stages)
        stages.begin("memory")
        memory_rows, memory = memorisation(settings.memory, workshop, stages.at)
        rows = [*quality_rows(points), *evaluation_rows(table), *memory_rows]
        data = {
            "points": [point.record() for point in points],
            "evaluations": table,
            "memorisation": memory,
            "references": references.source,
            "left_out_g_cm3": left_out_bands(workshop.prior_folder),
            "contact_limit_a": LIMIT_CONTACT_A,
        }
        return BenchResult(self.name, rows, data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.generation_picture import draw

        draw(result, path)


def _covered(settings: GenerationSettings, references: References) -> tuple[float, ...]:
    """The densities of the references that were given; in the short form two of them."""
    there = references.densities()
    return tuple(there if len(settings.densities_g_cm3) > 2 else [there[len(there) // 2], there[-1]])


def _points(
    settings: GenerationSettings, workshop: Workshop, references: References, stages: Stages
) -> list[Point]:
    counts = dict(settings.references)
    wishes = [
        Wanted(atoms, density, counts[atoms])
        for atoms, _ in settings.raw
        for density in settings.densities_g_cm3
    ]
    stages.begin("references")
    references.make(wishes, stages.at)
    stages.begin("generation")
    raw = []
    for number, wish in enumerate(wishes):
        stages.at(number / len(wishes), f"{wish.atoms} atoms, {wish.density_g_cm3:g} g/cm³")
        cells = workshop.cells(wish.atoms, [wish.density_g_cm3] * dict(settings.raw)[wish.atoms])
        raw.append(workshop.sample(cells, f"raw-{wish.atoms}-{wish.density_g_cm3:g}"))
    stages.begin("refinement")
    points = []
    bands = left_out_bands(workshop.prior_folder)
    for number, (wish, sampled) in enumerate(zip(wishes, raw, strict=True)):
        stages.at(number / len(wishes), f"{wish.atoms} atoms, {wish.density_g_cm3:g} g/cm³")
        chosen = slice(0, dict(settings.refined)[wish.atoms])
        refined = workshop.refine(sampled.structures[chosen], sampled.seeds[chosen])
        theirs = references.find(wish)
        energies = _Energies(workshop, wish.atoms <= LARGEST_LABELLED)
        given = references.given is not None
        # Networks of another potential are not at rest in ours: for energies they are refined as ours are.
        rested = [r.atoms for r in workshop.refine(theirs, range(len(theirs)))] if given else theirs
        points.append(
            Point(
                atoms=wish.atoms,
                density_g_cm3=wish.density_g_cm3,
                left_out=any(low <= wish.density_g_cm3 <= high for low, high in bands or ()),
                raw=sampled.structures,
                failures=sampled.failures,
                seconds=sampled.seconds,
                refined=[result.atoms for result in refined],
                displacements_a=[result.rms_displacement_a for result in refined],
                reference=theirs,
                judge=energies.judge,
                raw_energies=energies.of(sampled.structures[chosen]),
                refined_energies=energies.of([result.atoms for result in refined]),
                reference_energies=energies.of(rested),
            )
        )
    return points


class _Energies:
    """Energies per atom by the oracle, or by the potential for large cells."""

    def __init__(self, workshop: Workshop, oracle: bool) -> None:
        self.workshop = workshop
        self.judge = "oracle" if oracle else "potential"

    def of(self, structures: list[Atoms]) -> list[float]:
        """eV per atom."""
        if self.judge == "potential":
            return self.workshop.energies(structures)
        have = [atoms for atoms in structures if "REF_energy" in atoms.info]
        if len(have) == len(structures):
            return oracle_energies(structures)
        return oracle_energies(self.workshop.label(structures))


def _evaluations(
    settings: GenerationSettings, workshop: Workshop, references: References, stages: Stages
) -> list[dict[str, Any]]:
    """What more evaluations buy: raw structures of 64 atoms, the densities together."""
    stages.begin("evaluations")
    atoms = settings.raw[0][0]
    densities = [
        d for d in settings.evaluations_densities_g_cm3 if references.find(Wanted(atoms, d, 1))
    ] or list(settings.densities_g_cm3[:1])
    rows = []
    for number, steps in enumerate(settings.evaluations):
        stages.at(number / len(settings.evaluations), f"{steps} evaluations")
        per_density = [
            _one_evaluation(workshop, references, Wanted(atoms, density, 8), steps, settings)
            for density in densities
        ]
        keys = per_density[0].keys()
        rows.append(
            {"evaluations": steps, **{k: float(np.mean([row[k] for row in per_density])) for k in keys}}
        )
    return rows


def _one_evaluation(
    workshop: Workshop, references: References, wish: Wanted, steps: int, settings: GenerationSettings
) -> dict[str, float]:
    cells = workshop.cells(wish.atoms, [wish.density_g_cm3] * settings.evaluations_count)
    sampled = workshop.sample(cells, f"evaluations-{wish.density_g_cm3:g}", steps=steps)
    theirs = references.find(wish)
    ratio = compare_curves(radial_curves(sampled.structures), radial_curves(theirs)).ratio
    shares = 100 * np.abs(
        coordination_shares(sampled.structures).mean(axis=0) - coordination_shares(theirs).mean(axis=0)
    )
    energies = oracle_energies(workshop.label(sampled.structures))
    baseline = oracle_energies(references.label(theirs))
    contacts = [shortest_contact(structure) for structure in sampled.structures]
    return {
        "g_r_ratio": float("nan") if ratio is None else ratio,
        "share_difference_points": float(shares.max()),
        "energy_above_reference_ev_per_atom": float(np.median(energies) - np.median(baseline)),
        "valid_share": float(np.mean(np.array(contacts) >= LIMIT_CONTACT_A)),
        "seconds_per_structure": sampled.seconds / len(cells),
    }

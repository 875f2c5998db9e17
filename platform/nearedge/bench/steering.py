"""Bench ``steering``: does a target spectrum move structures whose cell is fixed, and what does it cost?

Targets are cell-mean spectra of single reference networks, computed by the oracle. Guided structures are
refined on energy plus spectral mismatch, unguided ones on the energy; the oracle then labels both. How much of
the gain the refinement alone would bring stands beside it as the baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import BenchOptions, BenchResult, Report, Row
from nearedge.bench.inferring import generated_library, inference_rows, known_library
from nearedge.bench.judging import Arena, Run, Verdict
from nearedge.bench.references import References, Wanted, pair_spread
from nearedge.bench.workshop import ELEMENT, Stages, Workshop
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.refinement import RefinementSettings
from nearedge_services.spectra.labelled import label_cell_means
from nearedge_services.spectra.target import Target

LIMIT_REDUCTION = 0.4
LIMIT_COST_EV = 0.08
MILLI = 1e3


@dataclass(frozen=True)
class SteeringSettings:
    """How much is measured."""

    atoms: int = 64
    cell_g_cm3: float = 2.5
    targets_g_cm3: tuple[float, ...] = (3.0, 2.0)
    samples: int = 8
    curve_scales: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {
            "surrogate": (3.0, 10.0, 30.0),
            "noise-aware": (3.0, 10.0, 30.0),
            "classifier-free": (1.0, 2.0, 4.0),
            "both": (3.0, 10.0, 30.0),
        }
    )
    curve_refined: int = 2
    """Of the samples at each point of the curve, how many are refined."""
    same_g_cm3: tuple[float, ...] = (2.0, 2.5, 3.0)
    """Densities at which an unknown network of the same density is aimed at."""
    references: int = 3
    """Independent networks at each density, where the bench makes them."""
    inferred_g_cm3: tuple[float, ...] = (1.6, 2.0, 2.25, 2.5, 2.75, 3.0, 3.4)
    """Densities whose networks' density is inferred (from a given file: all that it holds)."""
    library: int = 64
    """Generated structures the inference learns from, where the networks of the training are not there."""
    library_g_cm3: tuple[float, float] = (1.4, 3.6)
    """Their densities; the prior of the inferred density is flat there."""
    quench: QuenchSettings = field(default_factory=QuenchSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)


SHORT = SteeringSettings(
    targets_g_cm3=(3.0,),
    samples=2,
    curve_scales={"surrogate": (10.0,), "noise-aware": (10.0,), "classifier-free": (2.0,), "both": (10.0,)},
    curve_refined=0,
    same_g_cm3=(2.5,),
    references=2,
    library=14,
    quench=QuenchSettings(hold_steps=50, quench_steps=150, relax_steps=60),
    refinement=RefinementSettings(anneal=None, final_steps=30),
)


class SteeringBench:
    """Steering at fixed density, and inference where the density is unknown."""

    name = "steering"

    def __init__(self, settings: SteeringSettings | None = None) -> None:
        self.settings = settings

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        settings = self.settings or (SHORT if options.short else SteeringSettings())
        surrogate = options.model("surrogate", [ELEMENT])
        workshop = Workshop(options, settings.refinement)
        references = References(workshop, settings.quench)
        stages = Stages(report, {"references": 4, "steering": 3, "curve": 6, "same": 4, "inference": 6})
        networks = _networks(settings, references, stages)
        arena = Arena(workshop, surrogate)
        guides = arena.guides
        task = _Task(settings, arena, networks, stages)
        steering_rows, steered = task.steer()
        curve_rows, curve = task.curve()
        same_rows, same = task.same_density()
        inferred_rows, inferred = task.infer()
        data = {
            "headline": {"kind": guides.best, "scale": guides.scale(guides.best)},
            "judging_members": arena.judge.members,
            "steered": steered,
            "curve": curve,
            "same_density": same,
            "inference": inferred,
            "references": references.source,
        }
        return BenchResult(self.name, [*steering_rows, *curve_rows, *same_rows, *inferred_rows], data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.steering_picture import draw

        draw(result, path)


def _networks(settings: SteeringSettings, references: References, stages: Stages) -> dict[float, list[Atoms]]:
    """Labelled reference networks by density, g/cm³."""
    needed = {settings.cell_g_cm3, *settings.targets_g_cm3, *settings.same_g_cm3}
    inferred = settings.inferred_g_cm3
    if references.given is not None and len(inferred) > 2:
        inferred = tuple(references.densities())
    densities = sorted(needed | set(inferred))
    stages.begin("references")
    wishes = [Wanted(settings.atoms, density, settings.references) for density in densities]
    references.make(wishes, stages.at)
    return {wish.density_g_cm3: references.label(references.find(wish)) for wish in wishes}


class _Task:
    """The measurements, which share the models and the reference networks."""

    def __init__(
        self,
        settings: SteeringSettings,
        arena: Arena,
        networks: dict[float, list[Atoms]],
        stages: Stages,
    ) -> None:
        self.settings = settings
        self.arena = arena
        self.guides = arena.guides
        self.best = (self.guides.best, self.guides.scale(self.guides.best))
        self.networks = networks
        self.stages = stages

    def cells(self, density_g_cm3: float) -> list[Atoms]:
        """Empty cells of one density, one for each sample."""
        return self.arena.workshop.cells(self.settings.atoms, [density_g_cm3] * self.settings.samples)

    def steer(self) -> tuple[list[Row], list[dict[str, Any]]]:
        """Guided against unguided, for each target."""
        self.stages.begin("steering")
        rows, records = [], []
        for number, density in enumerate(self.settings.targets_g_cm3):
            self.stages.at(number / len(self.settings.targets_g_cm3), f"towards {density:g} g/cm³")
            target = self.arena.target(self.networks[density][0])
            cells = self.cells(self.settings.cell_g_cm3)
            plain = self.arena.run(cells, "steer", target, None)
            guided = self.arena.run(cells, "steer", target, self.best)
            biased = self.refined_alone(plain.raw.structures, target)
            rows += steering_rows(density, self.settings.cell_g_cm3, plain, guided, biased)
            records.append(
                {
                    "target_g_cm3": density,
                    "cell_g_cm3": self.settings.cell_g_cm3,
                    "unguided": _run_record(plain),
                    "guided": _run_record(guided),
                    "refinement_alone": biased.record(),
                }
            )
        return rows, records

    def refined_alone(self, unguided: Sequence[Atoms], target: Target) -> Verdict:
        """Unguided structures refined with the spectral term: what guidance is not needed for."""
        seeds = self.arena.workshop.seeds("steer", len(unguided))
        return self.arena.verdict([_bare(a) for a in self.arena.refine(unguided, seeds, target)], target)

    def curve(self) -> tuple[list[Row], list[dict[str, Any]]]:
        """Every kind of guidance at several strengths, towards the first target."""
        self.stages.begin("curve")
        target = self.arena.target(self.networks[self.settings.targets_g_cm3[0]][0])
        cells = self.cells(self.settings.cell_g_cm3)
        points = [
            (kind, scale)
            for kind, scales in self.settings.curve_scales.items()
            for scale in scales
            if self.guides.missing(kind) is None
        ]
        records: list[dict[str, Any]] = []
        for number, (kind, scale) in enumerate([("none", 0.0), *points]):
            self.stages.at(number / (len(points) + 1), f"{kind} {scale:g}")
            guide = None if kind == "none" else (kind, scale)
            run = self.arena.run(cells, "curve", target, guide, refined=self.settings.curve_refined)
            records.append({"kind": kind, "scale": scale, **_run_record(run)})
        rows = curve_rows(records)
        for kind in self.settings.curve_scales:
            reason = self.guides.missing(kind)
            if reason is not None:
                rows.append(Row.shown(f"{kind} guidance: not measured, {reason}", None))
        return rows, records

    def same_density(self) -> tuple[list[Row], list[dict[str, Any]]]:
        """The spectrum of an unknown network of the cell's own density."""
        self.stages.begin("same")
        rows, records = [], []
        for number, density in enumerate(self.settings.same_g_cm3):
            self.stages.at(number / len(self.settings.same_g_cm3), f"{density:g} g/cm³")
            networks = self.networks[density]
            spread, words = self.spread(density)
            target = self.arena.target(networks[0])
            run = self.arena.run(self.cells(density), f"same-{density:g}", target, self.best, label_raw=False)
            best = min(run.refined.distances, default=float("nan"))
            limit = MILLI * spread
            rows.append(
                Row.at_most(
                    f"unknown network of the same density, {density:g} g/cm³: best of {self.settings.samples} guided "
                    f"(baseline: median; limit: {words})",
                    MILLI * best,
                    limit,
                    "10⁻³/eV",
                    MILLI * run.refined.distance,
                )
            )
            records.append({"density_g_cm3": density, "spread": spread, **run.refined.record()})
        return rows, records

    def spread(self, density_g_cm3: float) -> tuple[float, str]:
        """Mean distance between independent networks of a density (1/eV), and in words what it is.

        One pair says little: below three pairs, the mean over all densities. NaN without any pair.
        """
        spreads = {d: pair_spread(label_cell_means(n, ELEMENT)[1]) for d, n in self.networks.items()}
        own = spreads.get(density_g_cm3)
        if own is not None and len(self.networks[density_g_cm3]) >= 3:
            return own, f"spread of {len(self.networks[density_g_cm3])} independent networks"
        known = [spread for spread in spreads.values() if spread is not None]
        mean = float(np.mean(known)) if known else float("nan")
        return mean, f"spread of independent networks, mean over {len(known)} densities"

    def infer(self) -> tuple[list[Row], dict[str, Any]]:
        """Density and coordination from spectra alone."""
        self.stages.begin("inference")
        settings, workshop = self.settings, self.arena.workshop
        known = known_library(workshop.prior_folder)
        if known is None:
            densities = np.linspace(*settings.library_g_cm3, settings.library).tolist()
            library = generated_library(workshop, settings.atoms, densities, self.stages.at)
            known = (library, "generated")
        references = [atoms for networks in self.networks.values() for atoms in networks]
        rows, data = inference_rows(known[0], references, workshop.options.seed, settings.library_g_cm3)
        return rows, {"library": known[1], **data}


def _bare(atoms: Atoms) -> Atoms:
    """A copy without the labels of the geometry before."""
    copy = atoms.copy()
    for name in ("xanes", "REF_forces"):
        copy.arrays.pop(name, None)
    for name in ("REF_energy", "xanes_energies", "oracle_details"):
        copy.info.pop(name, None)
    return copy


def _run_record(run: Run) -> dict[str, Any]:
    return {"raw": run.raw.record(), "refined": run.refined.record() if run.refined.structures else None}


def reduction(guided: Verdict, unguided: Verdict) -> float:
    """How much lower the median distance is, 0 to 1; NaN where one is missing."""
    return 1.0 - guided.distance / unguided.distance


def steering_rows(
    target_g_cm3: float, cell_g_cm3: float, plain: Run, guided: Run, biased: Verdict
) -> list[Row]:
    """Guided against unguided, refined: distance, energy and what it did to the structures."""
    words = f"cell {cell_g_cm3:g}, target of {target_g_cm3:g} g/cm³"
    ours, theirs = guided.refined, plain.refined
    shares = [100 * np.array(verdict.record()["shares"], dtype=float)[2] for verdict in (ours, theirs)]
    contacts = [verdict.record()["shortest_contact_a"] for verdict in (ours, theirs)]
    return [
        Row.at_least(
            f"{words}: oracle distance of refined guided below refined unguided by "
            "(baseline: the spectral term in the refinement alone)",
            reduction(ours, theirs),
            LIMIT_REDUCTION,
            "share",
            reduction(biased, theirs),
        ),
        Row.at_most(
            f"{words}: energy that it costs (baseline: as above)",
            ours.energy - theirs.energy,
            LIMIT_COST_EV,
            "eV/atom",
            biased.energy - theirs.energy,
        ),
        Row.shown(
            f"{words}: distance, refined (baseline: unguided)",
            MILLI * ours.distance,
            "10⁻³/eV",
            MILLI * theirs.distance,
        ),
        Row.shown(
            f"{words}: distance, raw (baseline: unguided)",
            MILLI * guided.raw.distance,
            "10⁻³/eV",
            MILLI * plain.raw.distance,
        ),
        Row.shown(f"{words}: four-fold atoms, refined (baseline: unguided)", shares[0], "%", shares[1]),
        Row.shown(f"{words}: shortest contact, refined (baseline: unguided)", contacts[0], "Å", contacts[1]),
    ]


def curve_rows(records: Sequence[dict[str, Any]]) -> list[Row]:
    """One row for each point: distance by the oracle, everything else in words."""
    rows = []
    for record in records:
        raw, refined = record["raw"], record["refined"]
        name = "unguided" if record["kind"] == "none" else f"{record['kind']} × {record['scale']:g}"
        judged = raw["judged_distance"]
        after = "" if refined is None else f", refined {MILLI * refined['distance']:.1f}"
        judge = "" if judged is None else f"judge {MILLI * judged:.1f}{after}; "
        words = (
            f"curve, {name}, raw: {judge}4-fold {100 * np.asarray(raw['shares'], dtype=float)[2]:.0f} %, "
            f"contact {raw['shortest_contact_a']:.2f} Å, energy "
            f"{raw['energy_ev_per_atom'] - records[0]['raw']['energy_ev_per_atom']:+.2f} eV/atom"
        )
        rows.append(
            Row.shown(words, MILLI * raw["distance"], "10⁻³/eV", MILLI * records[0]["raw"]["distance"])
        )
    return rows

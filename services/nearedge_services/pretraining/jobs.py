"""The pieces of work that make labelled frames, each of them one file that is whole or missing.

Every job is a frozen object that a fresh process can run: what it makes depends on it alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms

from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import SamplingError, empty_cells, sample
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.errors import BadGeometry, NotConverged, NotFinite, OracleError
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.seed import make_seed, relax_with_oracle
from nearedge_services.potential.potential import Potential
from nearedge_services.potential.quench import QuenchSettings, quench
from nearedge_services.pretraining.frames import KEPT, networks
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.refinement import RefinementSettings, refine
from nearedge_services.refinement.settings import Anneal
from nearedge_services.structures.compact import read_networks
from nearedge_services.structures.composition import density_g_cm3, parse_composition
from nearedge_services.structures.extxyz import read_structures, write_structures
from nearedge_services.structures.material import Scales
from nearedge_services.structures.melt_quench import hot_frames


class Job(Protocol):
    """One piece of work: a file to be written."""

    @property
    def path(self) -> Path:
        """That file."""
        ...

    def make(self) -> list[Atoms]:
        """The labelled frames that belong into the file."""
        ...


def run_job(job: Job) -> int:
    """Write the job's file unless it is there; number of frames written."""
    if job.path.exists():
        return 0
    frames = job.make()
    job.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = job.path.with_name(f".{job.path.name}.{os.getpid()}.extxyz")
    if frames:
        write_structures(temporary, frames)
    else:
        temporary.touch()
    temporary.replace(job.path)
    return len(frames)


@dataclass(frozen=True)
class FirstNetwork:
    """A classical melt-quench relaxed and labelled by the oracle."""

    path: Path
    settings: PretrainingSettings
    density_g_cm3: float
    seed: int

    def make(self) -> list[Atoms]:
        """Frames of the relaxation, rattled copies, and the end. Empty where the oracle gives up."""
        settings = self.settings
        composition = parse_composition(settings.formula(settings.small_atoms))
        try:
            made = make_seed(oracle_of(settings), composition, self.density_g_cm3, self.seed, settings.first)
        except OracleError:
            return []
        return [*made.path, *made.rattled, made.final]


@dataclass(frozen=True)
class HotFrames:
    """Labelled frames of a classical quench, from the melt down."""

    path: Path
    settings: PretrainingSettings
    density_g_cm3: float
    seed: int

    def make(self) -> list[Atoms]:
        """Those frames that the oracle could label."""
        settings = self.settings
        composition = parse_composition(settings.formula(settings.small_atoms))
        frames = hot_frames(
            composition, self.density_g_cm3, self.seed, settings.hot_frames, settings.first.melt_quench
        )
        return labelled(frames, oracle_of(settings), f"hot-{self.seed}", self.density_g_cm3)


@dataclass(frozen=True)
class PotentialQuenches:
    """Networks that the potential quenched, labelled: with snapshots of the way, or relaxed by the oracle."""

    path: Path
    settings: PretrainingSettings
    quench: QuenchSettings
    potential: Path
    atoms: int
    densities_g_cm3: tuple[float, ...]
    seeds: tuple[int, ...]
    group: str
    final: bool = False
    """Whether these are the networks that the models learn from: relaxed by the oracle at the end."""

    def make(self) -> list[Atoms]:
        """All frames the oracle could label; the end of each network comes last and is marked ``network``."""
        settings, oracle = self.settings, oracle_of(self.settings)
        made = quench(
            Potential.load(self.potential),
            parse_composition(settings.formula(self.atoms)),
            self.densities_g_cm3,
            self.seeds,
            self.quench,
        )
        frames: list[Atoms] = []
        for network, density, seed in zip(made, self.densities_g_cm3, self.seeds, strict=True):
            name = f"{self.group}-{seed}"
            frames += labelled(network.snapshots, oracle, name, density)
            if network.final is None:
                continue
            if not self.final:
                frames += labelled([network.final], oracle, name, density)
                continue
            frames += _polished(network.final, settings, oracle, name, density, seed)
        return frames


@dataclass(frozen=True)
class AnnealedNetworks:
    """The networks of another job, annealed once more by the potential that has learnt from them, and relaxed and
    labelled by the oracle.
    """

    path: Path
    settings: PretrainingSettings
    anneal: Anneal
    potential: Path
    networks: Path
    """The other job's file."""

    def make(self) -> list[Atoms]:
        """As `PotentialQuenches` makes its final networks, in the groups of those they were."""
        settings, oracle = self.settings, oracle_of(self.settings)
        before = networks(read_structures(self.networks)) if self.networks.stat().st_size else []
        if not before:
            return []
        seeds = [int(atoms.info["seed"]) for atoms in before]
        steps = RefinementSettings(anneal=self.anneal, first_steps=0)
        bare = [Atoms(a.symbols, positions=a.positions, cell=a.cell, pbc=True) for a in before]
        made = refine(bare, Potential.load(self.potential), steps, seeds=seeds)
        frames: list[Atoms] = []
        for one, old, seed in zip(made, before, seeds, strict=True):
            if not one.failed:
                name, density = str(old.info["group"]), float(old.info["density_g_cm3"])
                frames += _polished(one.atoms, settings, oracle, name, density, seed)
        return frames


@dataclass(frozen=True)
class KeptNetworks:
    """Networks that earlier models learnt from, labelled, with rattled copies."""

    path: Path
    settings: PretrainingSettings
    networks: Path
    """File of compact networks."""
    chosen: tuple[int, ...]
    """Rows of that file."""

    def make(self) -> list[Atoms]:
        """Those frames that the oracle could label."""
        settings, oracle = self.settings, oracle_of(self.settings)
        every = read_networks(self.networks)
        frames: list[Atoms] = []
        for number in self.chosen:
            atoms = every[number]
            name, density = f"{KEPT}-{number}", density_g_cm3(atoms)
            frames += labelled(
                rattled(atoms, settings.rattle_a, settings.seed + number), oracle, name, density
            )
            ends = labelled([atoms], oracle, name, density)
            for end in ends:
                end.info["network"] = True
            frames += ends
        return frames


@dataclass(frozen=True)
class GeneratedStructures:
    """What the prior makes without guidance, labelled as it comes."""

    path: Path
    settings: PretrainingSettings
    prior: Path
    densities_g_cm3: tuple[float, ...]
    seeds: tuple[int, ...]
    evaluations: int

    def make(self) -> list[Atoms]:
        """Those structures that the oracle could label."""
        settings = self.settings
        composition = parse_composition(settings.formula(settings.network_atoms))
        walk = SamplerSettings(steps=self.evaluations)
        cells = empty_cells(composition, self.densities_g_cm3)
        try:
            made = dict(enumerate(sample(Prior.load(self.prior), cells, walk, self.seeds)))
        except SamplingError as error:
            made = error.completed
        oracle = oracle_of(settings)
        frames: list[Atoms] = []
        for number, atoms in made.items():
            name = f"generated-{self.seeds[number]}"
            frames += labelled([atoms], oracle, name, self.densities_g_cm3[number])
        return frames


@dataclass(frozen=True)
class RefinedStructures:
    """What the prior makes without guidance and the potential refines: where a potential has to be right."""

    path: Path
    settings: PretrainingSettings
    prior: Path
    potential: Path
    densities_g_cm3: tuple[float, ...]
    seeds: tuple[int, ...]

    def make(self) -> list[Atoms]:
        """Each as it comes and, unless the oracle gives up, as it was refined, on the oracle's way to rest, and there,
        with rattled copies.
        """
        settings, oracle = self.settings, oracle_of(self.settings)
        composition = parse_composition(settings.formula(settings.network_atoms))
        cells = empty_cells(composition, self.densities_g_cm3)
        try:
            made = dict(enumerate(sample(Prior.load(self.prior), cells, SamplerSettings(), self.seeds)))
        except SamplingError as error:
            made = error.completed
        seeds = [self.seeds[number] for number in made]
        anneal = Anneal().scaled(Scales.of(composition).temperature)
        refined = refine(
            list(made.values()),
            Potential.load(self.potential),
            RefinementSettings(anneal=anneal),
            seeds=seeds,
        )
        frames: list[Atoms] = []
        for (number, raw), one in zip(made.items(), refined, strict=True):
            name, density = f"refined-{self.seeds[number]}", self.densities_g_cm3[number]
            frames += labelled([raw], oracle, name, density)
            if not one.failed:
                bare = Atoms(one.atoms.symbols, positions=one.atoms.positions, cell=one.atoms.cell, pbc=True)
                frames += _polished(bare, settings, oracle, name, density, self.seeds[number])
        return frames


def _polished(
    network: Atoms, settings: PretrainingSettings, oracle: Oracle, name: str, density_g_cm3: float, seed: int
) -> list[Atoms]:
    """A network relaxed by the oracle: frames of the way, rattled copies, and last the end, marked ``network``.

    Empty where the oracle gives up.
    """
    try:
        path, end, _, _ = relax_with_oracle(oracle, network, settings.polish)
    except OracleError:
        return []
    copies = labelled(rattled(end, settings.rattle_a, seed), oracle, name, density_g_cm3)
    end.info["network"] = True
    return [_named(atoms, name, density_g_cm3) for atoms in (*path, *copies, end)]


def _named(atoms: Atoms, group: str, density_g_cm3: float) -> Atoms:
    atoms.info.update(group=group, density_g_cm3=density_g_cm3)
    return atoms


def oracle_of(settings: PretrainingSettings) -> Oracle:
    """The oracle that labels everything."""
    return make_oracle(settings.oracle, settings.oracle_settings)


def labelled(frames: Sequence[Atoms], oracle: Oracle, group: str, density_g_cm3: float) -> list[Atoms]:
    """Labelled copies of one group; a frame that the oracle finds unphysical, or for which it does not converge,
    is left out: a metallic melt such as silicon's has some.
    """
    kept = []
    for atoms in frames:
        try:
            one = oracle.label(atoms).attach(atoms)
        except (BadGeometry, NotConverged, NotFinite):
            continue
        kept.append(_named(one, group, density_g_cm3))
    return kept


def rattled(atoms: Atoms, sizes_a: Sequence[float], seed: int) -> list[Atoms]:
    """Copies with Gaussian displacements of these sizes, Å."""
    rng = np.random.default_rng([seed, 1])
    copies = []
    for size in sizes_a:
        copy = atoms.copy()
        copy.positions += rng.normal(0.0, size, copy.positions.shape)
        copies.append(copy)
    return copies

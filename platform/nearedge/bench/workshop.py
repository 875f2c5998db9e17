"""What the benches do to structures: sample, refine and label them, with the models that were asked for."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from ase import Atoms

from nearedge.bench.base import BenchOptions
from nearedge.bench.kept import Kept, Made
from nearedge.generation.models import weights_identity
from nearedge_services.diffusion.guidance import Guidance
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import SamplingError, sample
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.diffusion.starts import empty_cells
from nearedge_services.oracles.errors import OracleError
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.potential.potential import Potential
from nearedge_services.refinement import RefinementSettings, refine
from nearedge_services.structures.composition import Composition, parse_composition
from nearedge_services.structures.langevin import Evaluate

ELEMENT = "C"
"""What the benches measure, where nothing else is said."""
_PORTION_ATOMS = 1024
_REFINED_TOGETHER = 4


@dataclass(frozen=True)
class Sampled:
    """Structures as they left the sampler, and what they cost."""

    structures: list[Atoms]
    seeds: list[int]
    failures: int
    seconds: float


@dataclass(frozen=True)
class Rested:
    """A refined structure."""

    atoms: Atoms
    rms_displacement_a: float
    """Root mean square distance of the atoms from where they started, Å."""


class Workshop:
    """Prior, potential and oracle with the bench's seed.

    All that they make is kept in ``OUT/kept``, and found there by the next run.
    """

    def __init__(
        self,
        options: BenchOptions,
        refinement: RefinementSettings | None = None,
        *,
        unit: str = ELEMENT,
    ) -> None:
        """Load the models. ``unit``: the formula that cells repeat. Raises UserError when a model is missing."""
        self.options = options
        self.unit = parse_composition(unit)
        self.prior_folder = options.model("prior", self.unit.elements)
        self.potential_folder = options.model("potential", self.unit.elements)
        self.prior = Prior.load(self.prior_folder)
        self.potential = Potential.load(self.potential_folder)
        self.oracle = make_oracle("xtb", {})
        self.refinement = refinement or RefinementSettings()
        self.kept = Kept(options.out / "kept")
        self.names = {
            "prior": identity(self.prior_folder),
            "potential": identity(self.potential_folder),
            "oracle": f"{self.oracle.name}:{self.oracle.settings_hash}",
        }

    def seeds(self, name: str, count: int) -> list[int]:
        """Seeds of their own for every purpose; the first ones do not depend on how many there are."""
        purpose = int.from_bytes(sha256(name.encode()).digest()[:8], "little")
        words = [np.random.SeedSequence([self.options.seed, purpose, k]) for k in range(count)]
        return [int(word.generate_state(1)[0]) for word in words]

    def composition(self, atoms: int) -> Composition:
        """The unit repeated to about so many atoms."""
        return self.unit.scaled(max(round(atoms / self.unit.size), 1))

    def cells(self, atoms: int, densities: Sequence[float]) -> list[Atoms]:
        """Empty cubic cells, one for each density in g/cm³."""
        return empty_cells(self.composition(atoms), densities)

    def sample(
        self,
        cells: Sequence[Atoms],
        name: str,
        steps: int | None = None,
        guidance: Guidance | None = None,
        aim: str = "",
    ) -> Sampled:
        """One structure in each cell, seeded by the purpose's name; those that failed are left out.

        ``aim`` says in words all that decides the guidance: without it, guided structures are not kept.
        """
        seeds = self.seeds(name, len(cells))
        settings = SamplerSettings(max_atoms_per_batch=_PORTION_ATOMS)
        if steps is not None:
            settings = settings.model_copy(update={"steps": steps})

        def make() -> Made:
            started = time.perf_counter()
            try:
                structures = sample(self.prior, cells, settings, seeds, guidance)
                good = list(range(len(cells)))
            except SamplingError as error:
                good = sorted(error.completed)
                structures = [error.completed[k] for k in good]
            return structures, {"good": good, "seconds": time.perf_counter() - started}

        inputs = {"seeds": seeds, "settings": settings.model_dump(), "prior": self.names["prior"], "aim": aim}
        structures, told = (
            make() if guidance is not None and not aim else self.kept.get("sampled", cells, inputs, make)
        )
        good = told["good"]
        return Sampled(structures, [seeds[k] for k in good], len(cells) - len(good), told["seconds"])

    def refine(
        self,
        structures: Sequence[Atoms],
        seeds: Sequence[int],
        bias: Evaluate | None = None,
        aim: str = "",
    ) -> list[Rested]:
        """Refined structures, those that failed left out. ``aim``: as in `sample`, of the bias."""
        rested: list[Rested] = []
        for first in range(0, len(structures), _REFINED_TOGETHER):
            portion = slice(first, first + _REFINED_TOGETHER)
            rested += self._refine(structures[portion], list(seeds[portion]), bias, aim)
        return rested

    def _refine(
        self, structures: Sequence[Atoms], seeds: list[int], bias: Evaluate | None, aim: str
    ) -> list[Rested]:
        def make() -> Made:
            results = refine(structures, self.potential, self.refinement, bias=bias, seeds=seeds)
            good = [result for result in results if not result.failed]
            return [one.atoms for one in good], {"moved_a": [one.rms_displacement_a for one in good]}

        inputs = {
            "seeds": seeds,
            "settings": self.refinement.model_dump(),
            "potential": self.names["potential"],
            "aim": aim,
        }
        made, told = (
            make() if bias is not None and not aim else self.kept.get("refined", structures, inputs, make)
        )
        return [Rested(atoms, moved) for atoms, moved in zip(made, told["moved_a"], strict=True)]

    def label(self, structures: Sequence[Atoms], step: Callable[[int], None] | None = None) -> list[Atoms]:
        """Labelled copies; those that the oracle cannot calculate are left out."""
        labelled: list[Atoms] = []
        for number, atoms in enumerate(structures):
            labelled += self._label(atoms)
            if step is not None:
                step(number + 1)
        return labelled

    def _label(self, atoms: Atoms) -> list[Atoms]:
        def make() -> Made:
            try:
                return [self.oracle.label(atoms).attach(atoms)], {}
            except OracleError as error:
                if error.retryable:
                    raise
                return [], {"failed": str(error)}

        inputs = {"oracle": self.names["oracle"], "group": str(atoms.info.get("group", ""))}
        try:
            return self.kept.get("label", [atoms], inputs, make)[0]
        except OracleError:
            return []  # left out now, and tried again by the next run: only what is final is kept

    def energies(self, structures: Sequence[Atoms]) -> list[float]:
        """The potential's energies in eV per atom (its first network)."""
        outputs = self.potential.evaluate(structures, members=1)
        return [
            float(out.energies.mean()) / len(atoms) for out, atoms in zip(outputs, structures, strict=True)
        ]


def identity(folder: Path) -> str:
    """A name for the model in a folder, by its weights and its config."""
    return f"weights:{weights_identity(folder).partition(':')[2]}"


def oracle_energies(labelled: Sequence[Atoms]) -> list[float]:
    """The labels' energies in eV per atom."""
    return [float(atoms.info["REF_energy"]) / len(atoms) for atoms in labelled]


def left_out_bands(prior_folder: Path) -> tuple[tuple[float, float], ...] | None:
    """Bands of density (g/cm³) that the prior's training did not see; None where nothing says so.

    Read from ``left_out_g_cm3`` in the prior's ``config.json``, or in the settings of the
    ``pretraining.json`` beside it or one folder up.
    """
    config: tuple[Path, tuple[str, ...]] = (prior_folder / "config.json", ())
    records = [(place / "pretraining.json", ("settings",)) for place in near(prior_folder)]
    for path, keys in (config, *records):
        if not path.is_file():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            record = record.get(key, {})
        if "left_out_g_cm3" in record:
            return tuple((float(low), float(high)) for low, high in record["left_out_g_cm3"])
    return None


def near(folder: Path) -> list[Path]:
    """The folder and the two above it, as it was named and as it really lies where links are followed."""
    named = folder.absolute()
    places = [place for start in (named, named.resolve()) for place in (start, *start.parents[:2])]
    return list(dict.fromkeys(places))


class Stages:
    """Turns the work of a bench into one share of progress, by weights of its stages."""

    def __init__(self, report: Callable[[float, str], None], weights: Mapping[str, float]) -> None:
        self.report = report
        self.weights = weights
        self.done = 0.0
        self.current = ""

    def begin(self, stage: str) -> None:
        """Finish the stage before and start this one."""
        if self.current:
            self.done += self.weights[self.current]
        self.current = stage
        self.at(0.0)

    def at(self, share: float, what: str = "") -> None:
        """How far the current stage is, 0 to 1."""
        total = sum(self.weights.values())
        text = f"{self.current}: {what}" if what else self.current
        self.report(min((self.done + share * self.weights[self.current]) / total, 1.0), text)

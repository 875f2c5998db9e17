"""Seed structures: melt-quenched, relaxed with the oracle, and labelled along the way.

Example:
    >>> result = make_seed(make_oracle("xtb"), parse_composition("C32"), 2.6, seed=1)   # doctest: +SKIP
    >>> result.final.info["REF_energy"], len(result.path)                               # doctest: +SKIP
"""

import logging
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.optimize import BFGS
from pydantic import BaseModel, ConfigDict, Field

from nearedge_services.oracles.base import KeepsLabel, Label, Oracle
from nearedge_services.oracles.errors import (
    BadGeometry,
    MissingData,
    OracleCancelled,
    OracleError,
    classified,
)
from nearedge_services.structures.composition import Composition
from nearedge_services.structures.melt_quench import MeltQuenchError, MeltQuenchSettings, melt_quench

logger = logging.getLogger(__name__)


class SeedSettings(BaseModel):
    """How far a seed is relaxed and how much of the way is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relax_steps: int = Field(default=40, ge=0)
    """Steps of the relaxation with the oracle, at most."""
    fmax_ev_per_a: float = Field(default=0.3, gt=0)
    """Largest force at which the relaxation ends, eV/Å."""
    path_frames: int = Field(default=3, ge=0)
    """Labelled frames kept from the relaxation besides the final one; the first is its start."""
    rattle_a: tuple[float, ...] = (0.06, 0.11, 0.16)
    """One more labelled frame for each of these: the final one with Gaussian displacements of this size, Å.

    Generated structures are rougher than relaxed ones; without such frames a potential has no wall where atoms
    come too close, and candidates collapse while they relax."""
    melt_quench: MeltQuenchSettings = MeltQuenchSettings()
    """How the network is made."""


@dataclass(frozen=True)
class SeedResult:
    """A relaxed, labelled network and labelled frames on the way to it.

    Attributes:
        final: the last frame, labelled.
        path: at most ``path_frames`` earlier frames, labelled, from the start on, equally far apart along the path.
        rattled: labelled copies of the final frame with random displacements.
        steps: steps the relaxation took.
        converged: whether it reached ``fmax_ev_per_a``.
        seconds: wall-clock time of everything.
    """

    final: Atoms
    path: list[Atoms]
    rattled: list[Atoms]
    steps: int
    converged: bool
    seconds: float


def make_seed(
    oracle: Oracle,
    composition: Composition,
    density_g_cm3: float,
    seed: int,
    settings: SeedSettings | None = None,
) -> SeedResult:
    """Melt-quench a network, relax it with the oracle, label it. Frames share ``info["group"]``.

    The labels come from the relaxation's own calculations where the oracle's calculator keeps them.
    Raises OracleError (BadGeometry where the melt-quench failed), or UserError for bad input.
    """
    settings = settings or SeedSettings()
    started = time.perf_counter()
    oracle.check_elements(composition.numbers)
    atoms = make_network(composition, density_g_cm3, seed, settings.melt_quench)
    path, final, steps, converged = relax_with_oracle(oracle, atoms, settings)
    return SeedResult(
        final=final,
        path=path,
        rattled=_rattled(oracle, final, settings.rattle_a, seed),
        steps=steps,
        converged=converged,
        seconds=time.perf_counter() - started,
    )


def relax_with_oracle(
    oracle: Oracle, atoms: Atoms, settings: SeedSettings
) -> tuple[list[Atoms], Atoms, int, bool]:
    """Relax with the oracle's own method: labelled frames of the way, the labelled end, steps, whether it converged.

    At most ``path_frames`` frames, from the start on, equally far apart along the path. Moves ``atoms``. Raises
    OracleError.
    """
    frames, converged = _relaxation(atoms, oracle.calculator(), settings)
    chosen = [*_spread([frame for frame, _ in frames], settings.path_frames), len(frames) - 1]
    labelled = [_labelled(oracle, *frames[index]) for index in chosen]
    return labelled[:-1], labelled[-1], len(frames) - 1, converged


def make_network(
    composition: Composition, density_g_cm3: float, seed: int, settings: MeltQuenchSettings | None = None
) -> Atoms:
    """A melt-quenched network, not relaxed by any oracle, with its group, seed and density (g/cm³) in
    ``info``.

    Raises BadGeometry where the melt-quench failed, UserError for bad input.
    """
    try:
        atoms = melt_quench(composition, density_g_cm3, seed, settings)
    except MeltQuenchError as error:
        raise BadGeometry(str(error)) from error
    atoms.info.update(group=f"seed-{seed}", seed=seed, density_g_cm3=float(density_g_cm3))
    return atoms


def _relaxation(
    atoms: Atoms, calculator: Calculator, settings: SeedSettings
) -> tuple[list[tuple[Atoms, Label | None]], bool]:
    """All frames, the start included, each with its label where the calculator keeps it; and whether it
    converged.
    """
    atoms.calc = calculator
    frames: list[tuple[Atoms, Label | None]] = []

    def keep() -> None:
        atoms.get_forces()
        label = calculator.last_label() if isinstance(calculator, KeepsLabel) else None
        frames.append((_bare(atoms), label))

    optimiser = BFGS(atoms, logfile=None, maxstep=0.2)
    optimiser.attach(keep)
    converged = bool(optimiser.run(fmax=settings.fmax_ev_per_a, steps=settings.relax_steps))
    if not frames:
        keep()
    return frames, converged


def _bare(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.calc = None
    return copy


def _spread(frames: list[Atoms], count: int) -> list[int]:
    """Indices of at most ``count`` frames before the last one, the first included, evenly along the path's
    length.
    """
    if count == 0 or len(frames) < 2:
        return []
    moves = [np.linalg.norm(b.positions - a.positions) for a, b in pairwise(frames)]
    along: npt.NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(moves)])
    wanted = np.arange(count) / count * along[-1]
    nearest = np.abs(along[:-1, None] - wanted).argmin(axis=0)
    return sorted({int(index) for index in nearest})


def _labelled(oracle: Oracle, atoms: Atoms, label: Label | None) -> Atoms:
    return (label or oracle.label(atoms)).attach(atoms)


def _rattled(oracle: Oracle, final: Atoms, sizes_a: tuple[float, ...], seed: int) -> list[Atoms]:
    """Labelled copies with random displacements. One whose calculation fails is left out: the relaxation before it is
    worth more. Raises OracleCancelled, and MissingData, with which another node may do better.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for size in sizes_a:
        atoms = _bare(final)
        atoms.positions += rng.normal(0.0, size, atoms.positions.shape)
        try:
            with classified():
                frames.append(oracle.label(atoms).attach(atoms))
        except (OracleCancelled, MissingData):
            raise
        except OracleError as error:
            logger.warning("a displaced copy is left out", extra={"data": {"problem": error.reason}})
    return frames

"""Amorphous networks of carbon, silicon and silicon carbide from a rapid melt-quench.

Bond-order potential of P. Erhart and K. Albe, Phys. Rev. B 71, 035211 (2005), one parameter set for C, Si and
SiC. It makes too few four-fold atoms in dense carbon: relax its networks with an oracle or a better
potential.
"""

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.optimize import FIRE
from pydantic import BaseModel, ConfigDict, Field

from nearedge_db.errors import UserError
from nearedge_services.structures.bond_order import ELEMENTS, bond_order_potential
from nearedge_services.structures.composition import Composition, cubic_cell
from nearedge_services.structures.langevin import Thermostat, langevin

Array = npt.NDArray[np.float64]

_MELT_SI_K, _MELT_C_K = 3500.0, 7000.0  # well above the melting points, so that 0.3 ps forget the start
_TRIALS = 200  # insertions refused before the distance shrinks
_SHRINK = 0.97


class MeltQuenchError(RuntimeError):
    """The dynamics went wrong; another seed or a smaller timestep may do."""


class MeltQuenchSettings(BaseModel):
    """How to melt and to quench. The defaults take about 2 s for 32 atoms on one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    melt_temperature_k: float | None = Field(default=None, gt=0)
    """Temperature of the melt, K. None: 3500 for silicon, 7000 for carbon, in proportion for silicon
    carbide.
    """
    final_temperature_k: float = Field(default=300.0, gt=0)
    """Temperature the quench ends at, K."""
    timestep_fs: float = Field(default=1.0, gt=0)
    """Timestep, fs."""
    melt_steps: int = Field(default=300, ge=0)
    """Steps at the melt's temperature."""
    quench_steps: int = Field(default=800, ge=1)
    """Steps of the exponential quench."""
    friction_per_fs: float = Field(default=0.02, gt=0)
    """Coupling to the Langevin thermostat, 1/fs."""
    relax_steps: int = Field(default=100, ge=0)
    """FIRE steps at the end, at most."""
    fmax_ev_per_a: float = Field(default=0.1, gt=0)
    """Largest force at which the final relaxation ends, eV/Å."""


def melt_quench(
    composition: Composition, density_g_cm3: float, seed: int, settings: MeltQuenchSettings | None = None
) -> Atoms:
    """A network of that composition in a cubic cell of that density (g/cm³); the seed decides everything.

    Raises UserError for elements the potential does not have or a density that is not positive, and
    MeltQuenchError when the dynamics explode.
    """
    settings = settings or MeltQuenchSettings()
    rng = np.random.default_rng(seed)
    atoms = melt(composition, density_g_cm3, rng, settings)
    melt_k = melt_temperature_k(composition, settings)
    _langevin(atoms, np.geomspace(melt_k, settings.final_temperature_k, settings.quench_steps), settings, rng)
    _relax(atoms, settings.relax_steps, settings.fmax_ev_per_a)
    return _finished(atoms)


def melt(
    composition: Composition, density_g_cm3: float, rng: np.random.Generator, settings: MeltQuenchSettings
) -> Atoms:
    """A liquid at the melt's temperature, with the classical potential as its calculator.

    Raises UserError for elements the potential does not have or a density that is not positive, and
    MeltQuenchError when the dynamics explode.
    """
    unknown = [symbol for symbol in composition.counts if symbol not in ELEMENTS]
    if unknown:
        raise UserError(
            "melt-quench has no potential for an element", got=", ".join(unknown), fix="use C, Si or SiC"
        )
    atoms = random_start(composition, density_g_cm3, rng)
    atoms.calc = bond_order_potential()
    _relax(atoms, steps=40, fmax=1.0)
    if settings.melt_steps:
        temperature = melt_temperature_k(composition, settings)
        _langevin(atoms, np.full(settings.melt_steps, temperature), settings, rng)
    return atoms


def hot_frames(
    composition: Composition,
    density_g_cm3: float,
    seed: int,
    count: int,
    settings: MeltQuenchSettings | None = None,
) -> list[Atoms]:
    """``count`` frames of a classical quench, from the melt down, evenly spread in time. Raises as `melt`."""
    settings = settings or MeltQuenchSettings()
    rng = np.random.default_rng(seed)
    atoms = melt(composition, density_g_cm3, rng, settings)
    frames = [_bare(atoms)]
    melt_k = melt_temperature_k(composition, settings)
    for part in np.array_split(
        np.geomspace(melt_k, settings.final_temperature_k, settings.quench_steps), max(count - 1, 1)
    ):
        _langevin(atoms, part, settings, rng)
        frames.append(_bare(atoms))
    return frames[:count]


def _bare(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    copy.calc = None
    return copy


def melt_temperature_k(composition: Composition, settings: MeltQuenchSettings) -> float:
    """Temperature of the melt, K: the settings' own, or the material's."""
    return settings.melt_temperature_k or _melt_temperature(composition)


def random_start(composition: Composition, density_g_cm3: float, rng: np.random.Generator) -> Atoms:
    """Random positions, each as far from the others as still fits: the distance shrinks when trials fail."""
    cell = cubic_cell(composition, density_g_cm3)
    length, numbers = float(cell[0, 0]), composition.numbers
    distance = length / len(numbers) ** (1 / 3)
    placed = np.empty((0, 3))
    failures = 0
    while len(placed) < len(numbers):
        trial = rng.uniform(0, length, 3)
        away = placed - trial
        away -= length * np.round(away / length)
        if np.all((away**2).sum(1) > distance**2):
            placed, failures = np.vstack([placed, trial]), 0
            continue
        failures += 1
        if failures == _TRIALS:
            distance, failures = distance * _SHRINK, 0
    return Atoms(rng.permutation(numbers), positions=placed, cell=cell, pbc=True)


def _melt_temperature(composition: Composition) -> float:
    carbon = composition.counts.get("C", 0) / len(composition.numbers)
    return _MELT_SI_K + carbon * (_MELT_C_K - _MELT_SI_K)


def _langevin(
    atoms: Atoms, temperatures_k: Array, settings: MeltQuenchSettings, rng: np.random.Generator
) -> None:
    calculator = atoms.calc

    def evaluate(structures: list[Atoms]) -> list[tuple[float, Array]]:
        for structure in structures:
            structure.calc = calculator
        return [(0.0, structure.get_forces()) for structure in structures]

    thermostat = Thermostat(timestep_fs=settings.timestep_fs, friction_per_fs=settings.friction_per_fs)
    exploded = langevin([atoms], evaluate, temperatures_k, [rng], thermostat)
    if exploded:
        raise MeltQuenchError(f"the melt-quench exploded: {exploded[0]}")


def _relax(atoms: Atoms, steps: int, fmax: float) -> None:
    if steps:
        FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=fmax, steps=steps)


def _finished(atoms: Atoms) -> Atoms:
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.get_potential_energy()):
        raise MeltQuenchError("the melt-quench ended in values that are not finite")
    atoms.calc = None
    atoms.set_momenta(None)
    atoms.wrap()
    return atoms

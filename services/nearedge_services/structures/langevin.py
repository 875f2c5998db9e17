"""Langevin dynamics of several structures at once, with whatever gives energies and forces."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms, units
from pydantic import BaseModel, ConfigDict, Field

from nearedge_services.structures.fixed import fixed_atoms

Array = npt.NDArray[np.float64]

Evaluate = Callable[[list[Atoms]], list[tuple[float, Array]]]
"""Energy (eV) and forces ((N, 3), eV/Å) of each structure."""

_CHECK_EVERY = 50  # steps between looks at the temperature
_EXPLODED = 10.0  # times the highest temperature of the thermostat


class Thermostat(BaseModel):
    """The integrator and its coupling to the bath."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timestep_fs: float = Field(default=1.0, gt=0)
    """Timestep, fs."""
    friction_per_fs: float = Field(default=0.02, gt=0)
    """Coupling to the bath, 1/fs."""


def langevin(
    structures: Sequence[Atoms],
    evaluate: Evaluate,
    temperatures_k: Array,
    generators: Sequence[np.random.Generator],
    thermostat: Thermostat,
    on_step: Callable[[int, dict[int, Atoms]], None] | None = None,
) -> dict[int, str]:
    """Move the structures in place, one step for each of the temperatures in K; who exploded, and how.

    ``temperatures_k``: (S,) for all of them, or (S, B) with a column for each of the B structures.

    BAOAB splitting (B. Leimkuhler, C. Matthews, J. Chem. Phys. 138, 174102 (2013)). Velocities start from the
    first temperature; every structure draws from its own generator, so that it does not depend on the others.
    A structure ten times hotter than the bath ever is, or no longer finite, has exploded: it stops where it is
    and the others go on. Fixed atoms (see `fixed_atoms`) stay where they are. ``on_step(step, moving)`` is
    called after every step with those that still move.
    """
    steps, count = len(temperatures_k), len(structures)
    table = np.broadcast_to(temperatures_k.reshape(steps, -1), (steps, count))
    moving = {
        k: _Particle(atoms, rng, _Bath(thermostat, table[:, k]))
        for k, (atoms, rng) in enumerate(zip(structures, generators, strict=True))
    }
    exploded: dict[int, str] = {}
    _set_forces(moving, evaluate)
    for number in range(steps):
        for particle in moving.values():
            particle.kick()
            particle.drift(number)
        _remove(moving, exploded, {k: p.broken() for k, p in moving.items()}, number)
        _set_forces(moving, evaluate)
        for particle in moving.values():
            particle.kick()
        if number % _CHECK_EVERY == 0:
            _remove(moving, exploded, {k: p.too_hot() for k, p in moving.items()}, number)
        if not moving:
            break
        if on_step is not None:
            on_step(number, {k: particle.atoms for k, particle in moving.items()})
    return exploded


class _Bath:
    """What a structure is coupled to; lengths in Å, energies in eV, times in ASE's unit."""

    def __init__(self, thermostat: Thermostat, temperatures_k: Array) -> None:
        self.step = thermostat.timestep_fs * units.fs
        self.keep = float(np.exp(-thermostat.friction_per_fs * thermostat.timestep_fs))
        self.thermal = np.sqrt(units.kB * temperatures_k)
        self.highest_k = float(temperatures_k.max())


class _Particle:
    """One structure with its velocities and forces."""

    def __init__(self, atoms: Atoms, generator: np.random.Generator, bath: _Bath) -> None:
        self.atoms = atoms
        self.generator = generator
        self.bath = bath
        self.masses = atoms.get_masses()[:, None]
        self.free = ~fixed_atoms(atoms)[:, None]
        self.noise = self.free * np.sqrt((1 - bath.keep**2) / self.masses)
        draws = generator.normal(size=(len(atoms), 3))
        self.velocities = self.free * draws * bath.thermal[0] / np.sqrt(self.masses)
        self.forces = np.zeros_like(self.velocities)

    def kick(self) -> None:
        """Half a step of the forces."""
        self.velocities += 0.5 * self.bath.step * self.forces / self.masses

    def drift(self, number: int) -> None:
        """Half a step of motion, the bath as it is at this step, and the other half."""
        thermal = self.bath.thermal[number]
        middle = 0.5 * self.bath.step * self.velocities
        draws = self.generator.normal(size=self.velocities.shape)
        self.velocities = self.bath.keep * self.velocities + thermal * self.noise * draws
        self.atoms.positions += middle + 0.5 * self.bath.step * self.velocities

    def broken(self) -> str | None:
        """Why it cannot go on, by its positions; None while it can."""
        return None if np.isfinite(self.atoms.positions).all() else "positions are not finite"

    def too_hot(self) -> str | None:
        """The same by its temperature."""
        temperature = float((self.masses * self.velocities**2).mean()) / units.kB
        limit = _EXPLODED * self.bath.highest_k
        return (
            None if temperature < limit else f"{temperature:.3g} K in a bath of {self.bath.highest_k:.0f} K"
        )


def _set_forces(moving: dict[int, _Particle], evaluate: Evaluate) -> None:
    if moving:
        results = evaluate([particle.atoms for particle in moving.values()])
        for particle, (_, forces) in zip(moving.values(), results, strict=True):
            particle.forces = particle.free * forces


def _remove(
    moving: dict[int, _Particle], exploded: dict[int, str], reasons: dict[int, str | None], step: int
) -> None:
    for k, reason in reasons.items():
        if reason is not None:
            exploded[k] = f"{reason} after {step + 1} steps"
            del moving[k]

"""Bringing structures to rest, with any ASE calculator or, several at once, with the potential."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nearedge_services.potential.errors import NonFiniteForces
from nearedge_services.structures.fixed import fixed_atoms
from nearedge_services.structures.langevin import Evaluate

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from nearedge_services.potential.potential import Potential

Array = npt.NDArray[np.float64]

_TIME_STEP, _MAX_TIME_STEP = 0.1, 1.0
_START_MIXING = 0.1
_PATIENCE = 5
_GROW, _SHRINK, _FADE = 1.1, 0.5, 0.99


class RelaxationStatus(StrEnum):
    """How a relaxation ended."""

    CONVERGED = "converged"
    """The largest force is below the threshold."""
    OUT_OF_STEPS = "out of steps"
    """The number of steps was reached first; the structure is the last one."""
    EXPLODED = "exploded"
    """An atom moved further than allowed; the structure is the last one before it did."""


@dataclass(frozen=True)
class Relaxation:
    """The end of a relaxation: the structure (a copy, without calculator), and what it took."""

    atoms: "Atoms"
    steps: int
    status: RelaxationStatus
    energy_ev: float
    """Energy of the last structure, eV, bias included where there is one."""
    max_force_ev_per_a: float
    rms_displacement_a: float
    """Root mean square distance of the atoms from where they started, Å."""

    @property
    def converged(self) -> bool:
        """True when the largest force is below the threshold."""
        return self.status is RelaxationStatus.CONVERGED


@dataclass(frozen=True)
class _Limits:
    """When a relaxation ends, and how far it goes in one step."""

    steps: int
    fmax_ev_per_a: float
    max_displacement_a: float
    max_step_a: float


class _Fire:
    """One structure under FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) with ASE's parameters,
    the step of every atom capped."""

    def __init__(self, positions: Array, max_step_a: float) -> None:
        self.start = positions.copy()
        self.positions = positions.copy()
        self.velocity = np.zeros_like(positions)
        self.max_step_a = max_step_a
        self.time_step = _TIME_STEP
        self.mixing = _START_MIXING
        self.downhill = 0

    def step(self, forces: Array) -> None:
        """Move along the forces, (N,3) eV/Å."""
        power = float(np.vdot(forces, self.velocity))
        if power > 0:
            direction = forces / max(float(np.linalg.norm(forces)), 1e-12)
            speed = float(np.linalg.norm(self.velocity))
            self.velocity = (1 - self.mixing) * self.velocity + self.mixing * speed * direction
            if self.downhill > _PATIENCE:
                self.time_step = min(self.time_step * _GROW, _MAX_TIME_STEP)
                self.mixing *= _FADE
            self.downhill += 1
        elif self.velocity.any():
            self.velocity[:] = 0.0
            self.mixing, self.downhill = _START_MIXING, 0
            self.time_step *= _SHRINK
        self.velocity += self.time_step * forces
        move = self.time_step * self.velocity
        lengths = np.linalg.norm(move, axis=1, keepdims=True)
        self.positions = self.positions + move * np.minimum(1.0, self.max_step_a / np.maximum(lengths, 1e-12))

    def displacement(self) -> Array:
        """Distance of every atom from its start, (N,) Å."""
        return np.asarray(np.linalg.norm(self.positions - self.start, axis=1))


def relax(
    atoms: "Atoms",
    calculator: "Calculator",
    steps: int = 50,
    fmax_ev_per_a: float = 0.1,
    *,
    max_displacement_a: float = 3.0,
    max_step_a: float = 0.1,
) -> Relaxation:
    """Relax the atoms of one structure in its fixed cell by FIRE with any ASE calculator.

    Give `ase.calculators.mixing.SumCalculator([potential.calculator(), SpectralBias(…)])` to relax towards
    a target spectrum. It ends when the largest force is below `fmax_ev_per_a` (eV/Å), after `steps` steps,
    or as soon as an atom is further than `max_displacement_a` (Å) from its start. The input is not changed.
    Fixed atoms (see `fixed_atoms`) stay where they are, and their forces do not count.

    Raises NonFiniteForces when the calculator gives an energy or a force that is not finite.
    """

    def evaluate(structures: list["Atoms"]) -> list[tuple[float, Array]]:
        for structure in structures:
            structure.calc = calculator
        return [
            (float(a.get_potential_energy()), np.asarray(a.get_forces(), dtype=float)) for a in structures
        ]

    return _relax([atoms], evaluate, _Limits(steps, fmax_ev_per_a, max_displacement_a, max_step_a))[0]


def relax_batch(
    structures: Sequence["Atoms"],
    potential: "Potential",
    steps: int = 50,
    fmax_ev_per_a: float = 0.1,
    *,
    max_displacement_a: float = 3.0,
    max_step_a: float = 0.1,
    members: int | None = None,
    bias: Evaluate | None = None,
) -> list[Relaxation]:
    """As `relax`, for several structures whose forces come from one call of the potential (its first
    `members`), plus one of `bias` if given (such as `SpectralBias.evaluate`), which adds to energies and forces.
    """

    evaluate = potential_energies(potential, members, bias)
    return _relax(structures, evaluate, _Limits(steps, fmax_ev_per_a, max_displacement_a, max_step_a))


def relax_with(
    structures: Sequence["Atoms"],
    evaluate: Evaluate,
    steps: int = 50,
    fmax_ev_per_a: float = 0.1,
    *,
    max_displacement_a: float = 3.0,
    max_step_a: float = 0.1,
) -> list[Relaxation]:
    """As `relax_batch`, with anything that gives energies and forces of several structures at once."""
    return _relax(structures, evaluate, _Limits(steps, fmax_ev_per_a, max_displacement_a, max_step_a))


def potential_energies(
    potential: "Potential", members: int | None = None, bias: Evaluate | None = None
) -> Evaluate:
    """Energies and forces of several structures from one call of the potential, with `bias` added."""

    def evaluate(moving: list["Atoms"]) -> list[tuple[float, Array]]:
        outputs = potential.evaluate(moving, members)
        results = [(float(output.energies.mean()), output.forces.mean(axis=0)) for output in outputs]
        if bias is None:
            return results
        extra = bias(moving)
        return [(e + de, f + df) for (e, f), (de, df) in zip(results, extra, strict=True)]

    return evaluate


def _relax(structures: Sequence["Atoms"], evaluate: Evaluate, limits: _Limits) -> list[Relaxation]:
    moving = [_Fire(atoms.positions, limits.max_step_a) for atoms in structures]
    free = [~fixed_atoms(atoms)[:, None] for atoms in structures]
    results: dict[int, Relaxation] = {}
    for step in range(limits.steps + 1):
        open_ones = [index for index in range(len(structures)) if index not in results]
        if not open_ones:
            break
        current = [_moved(structures[index], moving[index].positions) for index in open_ones]
        for index, atoms, (energy, felt) in zip(open_ones, current, evaluate(current), strict=True):
            if not (np.isfinite(energy) and np.isfinite(felt).all()):
                raise NonFiniteForces(f"energy or forces are not finite after {step} relaxation steps")
            forces = free[index] * felt
            status = _advance(moving[index], forces, limits, last=step == limits.steps)
            if status is not None:
                results[index] = Relaxation(
                    atoms=_moved(atoms, atoms.positions),
                    steps=step,
                    status=status,
                    energy_ev=energy,
                    max_force_ev_per_a=_largest(forces),
                    rms_displacement_a=_rms(atoms.positions - structures[index].positions),
                )
    return [results[index] for index in range(len(structures))]


def _advance(fire: _Fire, forces: Array, limits: _Limits, last: bool) -> RelaxationStatus | None:
    """Take one step unless the structure is at its end, whose status is returned."""
    if _largest(forces) <= limits.fmax_ev_per_a:
        return RelaxationStatus.CONVERGED
    if last:
        return RelaxationStatus.OUT_OF_STEPS
    fire.step(forces)
    exploded = float(fire.displacement().max(initial=0.0)) > limits.max_displacement_a
    return RelaxationStatus.EXPLODED if exploded else None


def _moved(atoms: "Atoms", positions: Array) -> "Atoms":
    """A copy without calculator at other positions."""
    copy = atoms.copy()
    copy.positions = positions
    return copy


def _largest(vectors: Array) -> float:
    return float(np.linalg.norm(vectors, axis=1).max(initial=0.0))


def _rms(vectors: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))

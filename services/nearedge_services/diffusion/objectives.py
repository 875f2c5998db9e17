"""What a structure is to agree with, as differentiable numbers.

Every objective is dimensionless and extensive: it grows with the number of atoms N, as an energy in units of
a temperature does, so that one guidance scale serves cells of all sizes. A difference of order one per atom
counts ½.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from ase import Atoms, units
from ase.data import atomic_masses, atomic_numbers
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.diffusion.pair_objectives import PairDistributionObjective, StructureFactorObjective
from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.target import Target
from nearedge_services.structures.composition import AMU_PER_A3_IN_G_CM3
from nearedge_services.structures.langevin import Evaluate

__all__ = [
    "DensityObjective",
    "EnergyObjective",
    "Mismatch",
    "Objective",
    "PairDistributionObjective",
    "SpectrumObjective",
    "StructureFactorObjective",
    "WeightedObjectives",
    "elements_of",
]


class Objective(Protocol):
    """Something to be small.

    An objective that reads the species of a batch has an attribute `elements`, the symbols they count in.
    """

    def value(self, batch: Batch) -> Tensor:
        """(B,), dimensionless, extensive, differentiable in the positions and, if it can be, the cells."""
        ...


def elements_of(thing: object) -> tuple[str, ...] | None:
    """The elements that species are counted in; None when it does not look at them."""
    elements = getattr(thing, "elements", None)
    return None if elements is None else tuple(elements)


class Mismatch(Protocol):
    """What the spectrum needs of a surrogate."""

    def mismatch(self, batch: Batch, target: Target) -> Tensor:
        """½ N ‖ȳ − y*‖² per structure, (B,), differentiable in the positions."""
        ...


@dataclass(frozen=True)
class SpectrumObjective:
    """½ N ‖ȳ − y*‖² of the cell-mean spectrum ȳ that a surrogate expects and the target y*."""

    surrogate: Mismatch
    target: Target

    @property
    def elements(self) -> tuple[str, ...] | None:
        """Those of the surrogate."""
        return elements_of(self.surrogate)

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`."""
        return self.surrogate.mismatch(batch, self.target)


@dataclass(frozen=True)
class DensityObjective:
    """½ N ((ρ − ρ*) / w)² with densities in g/cm³; its only degree of freedom is the cell.

    Raises UserError for a density or a tolerance that is not positive.
    """

    target_g_cm3: float
    elements: tuple[str, ...]
    tolerance_g_cm3: float = 1.0
    """w: as far from the target as this costs ½ per atom."""

    def __post_init__(self) -> None:
        if not (self.target_g_cm3 > 0 and self.tolerance_g_cm3 > 0):
            raise UserError(
                "density and tolerance must be positive",
                got=f"{self.target_g_cm3:g} and {self.tolerance_g_cm3:g} g/cm³",
                fix="give g/cm³",
            )

    def densities_g_cm3(self, batch: Batch) -> Tensor:
        """Mass densities (B,)."""
        table = batch.cells.new_tensor([atomic_masses[atomic_numbers[symbol]] for symbol in self.elements])
        masses = table.new_zeros(batch.size).index_add(0, batch.structure, table[batch.species])
        return AMU_PER_A3_IN_G_CM3 * masses / torch.linalg.det(batch.cells).abs()

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`."""
        deviation = (self.densities_g_cm3(batch) - self.target_g_cm3) / self.tolerance_g_cm3
        return 0.5 * batch.counts * deviation.square()


@dataclass(frozen=True)
class EnergyObjective:
    """E / (k_B T): what the Boltzmann distribution at T has in its exponent.

    evaluate: energies in eV and forces in eV/Å, such as `potential.relax.potential_energies(potential)`;
    elements: symbols that species count in; temperature_k: T.
    """

    evaluate: Evaluate
    elements: tuple[str, ...]
    temperature_k: float = 3000.0
    strain: float = 0.005
    """Half the strain over which the derivative to the cell's length is a difference."""

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`.

        Its derivative to the cells is exact for scaling as a whole only (two more energies, and only where
        the cells require gradients).
        """
        return _Energy.apply(batch.positions, batch.cells, batch, self)

    def structures(self, batch: Batch) -> list[Atoms]:
        """The batch as atoms."""
        numbers = np.array([atomic_numbers[symbol] for symbol in self.elements])[batch.species.cpu().numpy()]
        positions = batch.positions.detach().double().cpu().numpy()
        cells = batch.cells.detach().double().cpu().numpy()
        ends = np.cumsum(batch.counts.cpu().numpy())
        return [
            Atoms(numbers[end - count : end], positions=positions[end - count : end], cell=cell, pbc=True)
            for cell, count, end in zip(cells, batch.counts.tolist(), ends, strict=True)
        ]

    def energies(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """E / (k_B T) (B,) and its gradient (N, 3) 1/Å, in double precision."""
        with torch.enable_grad():  # forces may be gradients, and a function's forward has them off
            found = self.evaluate(self.structures(batch))
        thermal = units.kB * self.temperature_k
        energies = torch.as_tensor(np.array([energy for energy, _ in found]) / thermal)
        forces = torch.as_tensor(np.concatenate([forces for _, forces in found]) / thermal)
        return energies, -forces


class _Energy(torch.autograd.Function):
    """Energies from outside, with the forces that came with them as gradients."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, cells: Tensor, batch: Batch, owner: EnergyObjective) -> Tensor:
        """Energies (B,)."""
        batch = replace(batch, positions=positions.detach(), cells=cells.detach())
        energies, gradient = owner.energies(batch)
        cell_gradient = torch.zeros_like(cells)
        if ctx.needs_input_grad[1]:
            scaled = partial(_scaled_energies, owner, batch)
            slope = (scaled(owner.strain) - scaled(-owner.strain)) / (2 * owner.strain)
            by_atom = (gradient * batch.positions.double().cpu()).sum(-1)
            rest = slope - slope.new_zeros(batch.size).index_add(0, batch.structure.cpu(), by_atom)
            # h : h⁻ᵀ = 3, so that scaling positions and cell together gives the whole slope
            inverse = torch.linalg.inv(batch.cells).transpose(1, 2)
            cell_gradient = rest.to(cells)[:, None, None] / 3 * inverse
        ctx.save_for_backward(gradient.to(positions), cell_gradient, batch.structure)
        return energies.to(positions)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients to positions and cells."""
        gradient, cell_gradient, structure = ctx.saved_tensors
        weights = grad_outputs[0]
        return weights[structure, None] * gradient, weights[:, None, None] * cell_gradient, None, None


def _scaled_energies(owner: EnergyObjective, batch: Batch, strain: float) -> Tensor:
    factor = float(np.exp(strain))
    return owner.energies(replace(batch, positions=batch.positions * factor, cells=batch.cells * factor))[0]


class WeightedObjectives:
    """Several objectives with weights: Σ w_k U_k.

    Raises UserError when they count species in different elements.
    """

    def __init__(self, parts: Sequence[tuple[Objective, float]]) -> None:
        self.parts = tuple(parts)
        counted = {elements for objective, _ in parts if (elements := elements_of(objective)) is not None}
        if len(counted) > 1:
            raise UserError(
                "the objectives know different elements", got=sorted(counted), fix="use the same for all"
            )
        self.elements = counted.pop() if counted else None

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`."""
        return torch.stack([weight * objective.value(batch) for objective, weight in self.parts]).sum(0)

"""Labelled structures as tensors, every spectrum in the unit the networks learn.

The unit: a spectrum is divided by the area of the cell mean over the atoms of its own element, then
multiplied by the width of the energy grid. So the cell mean of each element has mean 1 over the grid,
whatever the oracle's scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.grid import EnergyGrid

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelledStructure:
    """One training structure of N atoms; S elements are known.

    Attributes:
        atoms: the structure itself.
        spectra: (N, G) float32, per atom, dimensionless (see the module).
        labelled: (N,) bool, False where the oracle gave no spectrum for the atom.
        complete: (S,) bool, True where every atom of that element (at least one) has a spectrum.
        group: frames of one network share it.
    """

    atoms: Atoms
    spectra: Tensor
    labelled: Tensor
    complete: Tensor
    group: str


def grid_of(atoms: Atoms) -> EnergyGrid:
    """The energy grid of a labelled structure. Raises UserError without labels or on an uneven grid."""
    energies = np.asarray(atoms.info.get("xanes_energies", ()), dtype=float)
    if "xanes" not in atoms.arrays or energies.ndim != 1 or len(energies) < 2:
        raise UserError(
            "a structure has no spectra",
            got=f"{atoms.get_chemical_formula()} with arrays {sorted(atoms.arrays)}",
            fix="label it first: nearedge label IN.extxyz --oracle xtb -o OUT.extxyz",
        )
    steps = np.diff(energies)
    if steps.min() <= 0 or not np.allclose(steps, steps[0], rtol=1e-4):
        raise UserError(
            "the energies of the spectra are not equally spaced", got=energies, fix="label on a regular grid"
        )
    return EnergyGrid(*(round(float(value), 9) for value in (energies[0], energies[-1], np.mean(steps))))


def scaled_spectra(
    xanes: Array, numbers: npt.ArrayLike, grid: EnergyGrid
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Per-atom spectra (N, G), dimensionless, and which atoms have one (N,).

    A row of zeros or with NaN is an atom without a label. Raises UserError where a cell mean has no area.
    """
    numbers = np.asarray(numbers)
    labelled = np.asarray(np.isfinite(xanes).all(axis=1) & (np.abs(xanes) > 0).any(axis=1))
    scaled = np.zeros_like(xanes, dtype=float)
    for element in np.unique(numbers[labelled]):
        rows = labelled & (numbers == element)
        area = float(xanes[rows].mean(axis=0) @ grid.weights)
        if not area > 0:
            raise UserError(
                "the mean spectrum has no positive area", got=area, fix="check the oracle's energy window"
            )
        scaled[rows] = xanes[rows] * (grid.weights.sum() / area)
    return scaled, labelled


def read_structures(
    structures: Sequence[Atoms], elements: tuple[str, ...], grid: EnergyGrid
) -> list[LabelledStructure]:
    """Labelled structures as tensors.

    Raises UserError for unlabelled structures, other energy grids and elements outside ``elements``.
    """
    return [_read(atoms, index, elements, grid) for index, atoms in enumerate(structures)]


def _read(atoms: Atoms, index: int, elements: tuple[str, ...], grid: EnergyGrid) -> LabelledStructure:
    if (own := grid_of(atoms)) != grid:
        raise UserError("the spectra are on another energy grid", got=own, fix=f"label on {grid}")
    check_elements(atoms, elements)
    symbols = np.array(atoms.get_chemical_symbols())
    xanes = np.asarray(atoms.arrays["xanes"], dtype=float)
    if xanes.shape != (len(atoms), grid.size):
        raise UserError(
            "the array of spectra has the wrong shape", got=xanes.shape, fix=f"give {(len(atoms), grid.size)}"
        )
    spectra, labelled = scaled_spectra(xanes, atoms.numbers, grid)
    if not labelled.any():
        raise UserError(
            "a structure has no atom with a spectrum", got=f"structure {index}", fix="label it first"
        )
    complete = [
        bool((symbols == element).any() and labelled[symbols == element].all()) for element in elements
    ]
    return LabelledStructure(
        atoms=atoms,
        spectra=torch.tensor(spectra, dtype=torch.float32),
        labelled=torch.tensor(labelled),
        complete=torch.tensor(complete),
        group=str(atoms.info.get("group", f"structure-{index}")),
    )


def check_elements(atoms: Atoms, elements: tuple[str, ...]) -> None:
    """Raise UserError when the structure has an element the model does not know."""
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise UserError(
            "the surrogate does not know an element", got=unknown, fix=f"use only {list(elements)} or retrain"
        )


def element_means(spectra: Tensor, labelled: Tensor, batch: Batch, n_elements: int) -> Tensor:
    """Mean over the labelled atoms of each element in each structure, (B, S, G); zero where there is none."""
    slot = batch.structure * n_elements + batch.species
    n_slots = len(batch.counts) * n_elements
    weight = labelled.to(spectra.dtype)
    sums = spectra.new_zeros(n_slots, spectra.shape[1]).index_add(0, slot, spectra * weight[:, None])
    counts = spectra.new_zeros(n_slots).index_add(0, slot, weight)
    return (sums / counts.clamp_min(1)[:, None]).reshape(len(batch.counts), n_elements, -1)

"""Spectra of labelled structures: their energy grid and their cell means."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum


def label_grid(atoms: Atoms) -> EnergyGrid:
    """The energy grid of a labelled structure. UserError without spectra or with unequal steps."""
    if "xanes" not in atoms.arrays or "xanes_energies" not in atoms.info:
        raise UserError(
            "the structure has no spectra",
            got=f"arrays {', '.join(sorted(atoms.arrays))}",
            fix="label it first: nearedge label IN.extxyz --oracle xtb -o OUT.extxyz",
        )
    energies = np.ravel(atoms.info["xanes_energies"]).astype(float)
    steps = np.diff(energies)
    if len(energies) < 2 or steps.min() <= 0 or not np.allclose(steps, steps.mean(), rtol=1e-3):
        raise UserError(
            "the energies of the spectra are not equally spaced", got=energies[:4], fix="label it again"
        )
    # Six digits: what survives a text file, so that all structures of one oracle agree on their grid.
    return EnergyGrid(float(energies[0]), float(energies[-1]), round(float(steps.mean()), 6))


def label_cell_means(frames: Sequence[Atoms], absorber: str) -> tuple[EnergyGrid, npt.NDArray[np.float64]]:
    """The grid that all frames share and their cell-mean spectra (B, G), each area-normalised, 1/eV.

    Raises UserError when the grids differ or a frame has no such absorber.
    """
    if not frames:
        raise UserError(
            "there is no structure to take spectra from", fix="give at least one labelled structure"
        )
    grid = label_grid(frames[0])
    means = []
    for number, atoms in enumerate(frames):
        if label_grid(atoms) != grid:
            raise UserError(
                f"frame {number} is on another energy grid", got=label_grid(atoms), fix=f"use {grid} for all"
            )
        if absorber not in atoms.get_chemical_symbols():
            raise UserError(
                f"frame {number} has no {absorber}", got=atoms.get_chemical_formula(), fix="set --absorber"
            )
        means.append(cell_mean(atoms.arrays["xanes"], atoms.numbers, absorber, grid))
    return grid, np.array(means)


def label_spectrum(frames: Sequence[Atoms], absorber: str) -> Spectrum:
    """The mean of the frames' cell-mean spectra. Raises UserError as `label_cell_means` does."""
    grid, means = label_cell_means(frames, absorber)
    step = f"mean over the {absorber} atoms, area-normalised over {grid.start_ev:g} … {grid.stop_ev:g} eV"
    return Spectrum(grid.energies, means.mean(axis=0), (f"{step}, of {len(frames)} structures",))

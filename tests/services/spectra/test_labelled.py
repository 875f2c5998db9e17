"""Spectra taken from labelled structures."""

import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.labelled import label_cell_means, label_grid, label_spectrum

GRID = EnergyGrid(-2, 8, 0.1)


def labelled_atoms(centre: float, symbols: str = "C2", grid: EnergyGrid = GRID) -> Atoms:
    atoms = Atoms(symbols, positions=[[0, 0, 0], [1.5, 0, 0]], cell=[8, 8, 8], pbc=True)
    atoms.arrays["xanes"] = np.stack([np.exp(-((grid.energies - centre) ** 2))] * 2)
    atoms.info["xanes_energies"] = grid.energies
    return atoms


def test_grid_survives_the_round_off_of_files():
    atoms = labelled_atoms(3)
    atoms.info["xanes_energies"] = np.round(GRID.energies, 6) + 1e-12
    assert label_grid(atoms).size == GRID.size
    np.testing.assert_allclose(label_grid(atoms).energies, GRID.energies, atol=1e-6)


def test_mean_of_the_frames_has_area_one():
    frames = [labelled_atoms(3), labelled_atoms(5)]
    grid, means = label_cell_means(frames, "C")
    spectrum = label_spectrum(frames, "C")
    np.testing.assert_allclose(spectrum.intensity, means.mean(axis=0))
    assert grid.weights @ spectrum.intensity == pytest.approx(1.0)


def test_faults_are_named():
    with pytest.raises(UserError, match="no spectra"):
        label_grid(Atoms("C"))
    with pytest.raises(UserError, match="frame 1 is on another energy grid"):
        label_cell_means([labelled_atoms(3), labelled_atoms(3, grid=EnergyGrid(-2, 8, 0.2))], "C")
    with pytest.raises(UserError, match="frame 0 has no Si"):
        label_cell_means([labelled_atoms(3)], "Si")
    with pytest.raises(UserError, match="no structure"):
        label_cell_means([], "C")
    uneven = labelled_atoms(3)
    uneven.info["xanes_energies"] = GRID.energies**3
    with pytest.raises(UserError, match="not equally spaced"):
        label_grid(uneven)

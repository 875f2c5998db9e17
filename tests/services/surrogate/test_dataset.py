"""Labels become tensors in one unit, and unfit data are refused."""

import numpy as np
import pytest
from ase import Atoms
from tests.services.surrogate.synthetic import GRID, labelled_networks

from nearedge_db.errors import UserError
from nearedge_services.surrogate.dataset import grid_of, read_structures, scaled_spectra


def binary_cell() -> tuple[Atoms, np.ndarray]:
    rng = np.random.default_rng(0)
    atoms = Atoms("Si2C3", positions=rng.uniform(0, 5, (5, 3)), cell=[5, 5, 5], pbc=True)
    return atoms, rng.uniform(1, 2, (5, GRID.size)) * np.array([7, 7, 1, 1, 1])[:, None]


def test_cell_mean_of_each_element_has_unit_mean():
    atoms, xanes = binary_cell()
    spectra, labelled = scaled_spectra(xanes, atoms.numbers, GRID)
    width = GRID.weights.sum()
    for number in (6, 14):
        assert spectra[atoms.numbers == number].mean(0) @ GRID.weights / width == pytest.approx(1)
    assert labelled.all()


def test_oracle_units_drop_out():
    atoms, xanes = binary_cell()
    assert np.allclose(
        scaled_spectra(xanes, atoms.numbers, GRID)[0], scaled_spectra(11 * xanes, atoms.numbers, GRID)[0]
    )


def test_atoms_without_a_row_are_unlabelled():
    atoms, xanes = binary_cell()
    xanes[:2] = 0
    xanes[2] = np.nan
    atoms.arrays["xanes"], atoms.info["xanes_energies"] = xanes, GRID.energies
    structure = read_structures([atoms], ("C", "Si"), GRID)[0]
    assert structure.labelled.tolist() == [False, False, False, True, True]
    assert structure.complete.tolist() == [False, False]
    assert structure.spectra.isfinite().all()


def test_grid_is_read_back():
    assert grid_of(labelled_networks(1)[0]) == GRID


def test_unlabelled_structure_is_refused():
    with pytest.raises(UserError, match="nearedge label"):
        grid_of(Atoms("C", cell=[3, 3, 3], pbc=True))


def test_other_grid_is_refused():
    atoms = labelled_networks(1)[0]
    atoms.info["xanes_energies"] = GRID.energies + 1
    with pytest.raises(UserError, match="another energy grid"):
        read_structures([atoms], ("C",), GRID)


def test_uneven_grid_is_refused():
    atoms = labelled_networks(1)[0]
    atoms.info["xanes_energies"] = GRID.energies**2
    with pytest.raises(UserError, match="equally spaced"):
        grid_of(atoms)


def test_unknown_element_is_refused():
    with pytest.raises(UserError, match="element"):
        read_structures(labelled_networks(1), ("Si",), GRID)

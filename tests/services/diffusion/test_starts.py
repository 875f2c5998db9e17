import numpy as np
import pytest
from ase.geometry import get_distances

from nearedge_services.diffusion.sampler import random_start
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.diffusion.starts import empty_cells, lattice_start
from nearedge_services.structures.composition import density_g_cm3, parse_composition


def test_empty_cells_have_composition_and_density():
    cells = empty_cells(parse_composition("Si3C5"), [1.7, 3.1])
    assert [density_g_cm3(cell) for cell in cells] == pytest.approx([1.7, 3.1])
    assert all(cell.get_chemical_formula() == "C5Si3" and cell.pbc.all() for cell in cells)


@pytest.mark.parametrize("count", [1, 7, 32, 64])
@pytest.mark.parametrize("cell", [np.diag([8.0, 8.0, 8.0]), np.array([[4.0, 0, 0], [2, 9, 0], [1, 1, 12]])])
def test_lattice_sites_do_not_coincide(count, cell):
    positions = lattice_start(cell, count, 0.0, np.random.default_rng(0))
    assert positions.shape == (count, 3)
    lengths = get_distances(positions, cell=cell, pbc=True)[1] + 100 * np.eye(count)
    assert lengths.min() > 0.4 * (np.linalg.det(cell) / count) ** (1 / 3)


def test_jitter_has_the_size_asked_for():
    cell = 40.0 * np.eye(3)
    still = lattice_start(cell, 4000, 0.0, np.random.default_rng(0))
    moved = lattice_start(cell, 4000, 0.8, np.random.default_rng(0))
    assert (moved - still).std() == pytest.approx(0.8, rel=0.03)


def test_fixed_atoms_keep_their_places():
    cell = empty_cells(parse_composition("C8"), [2.0])[0]
    cell.positions[:2] = [[1, 2, 3], [0.5, 0.5, 0.5]]
    cell.arrays["fixed"] = np.arange(8) < 2
    start = random_start(cell, SamplerSettings(start="uniform"), np.random.default_rng(1))
    np.testing.assert_array_equal(start.positions[:2], cell.positions[:2])
    assert np.ptp(start.positions[2:], axis=0).min() > 0.5

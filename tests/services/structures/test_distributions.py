"""g(r), bond angles and rings."""

import numpy as np
import pytest
from ase import Atoms
from tests.services.structures.crystals import diamond, graphite, networks, random_gas, silicon_carbide

from nearedge_services.structures.angles import angle_distribution, bond_angles
from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.rdf import radial_distribution
from nearedge_services.structures.rings import ring_shares, ring_statistics


def test_an_ideal_gas_has_g_one():
    gases = [random_gas(2000, 25.0, seed) for seed in range(3)]
    r, g = radial_distribution(gases, r_max=8.0, bins=40)
    assert g[r > 3].mean() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(g[r > 3], 1.0, atol=0.1)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_shells_of_diamond_hold_their_neighbours(sigma):
    r, g = radial_distribution([diamond()], r_max=4.0, bins=400, sigma=sigma)
    counts = g * 4 * np.pi * r**2 * 0.01 * 8 / 3.567**3
    assert counts[r < 2.0].sum() == pytest.approx(4, rel=0.01)
    assert counts[(r > 2.0) & (r < 2.75)].sum() == pytest.approx(12, rel=0.01)
    assert r[g.argmax()] in (pytest.approx(1.5446, abs=0.01), pytest.approx(2.5222, abs=0.01))


def test_partial_of_a_compound():
    r, g = radial_distribution([silicon_carbide()], r_max=2.5, bins=250, sigma=0.0, pair=("Si", "C"))
    assert r[g.argmax()] == pytest.approx(4.36 * np.sqrt(3) / 4, abs=0.01)
    assert radial_distribution([silicon_carbide()], r_max=2.5, pair=("C", "C"))[1].max() == 0
    with pytest.raises(ValueError, match="no structure"):
        radial_distribution([diamond()], pair=("Si", "C"))


def test_angles_of_crystals():
    np.testing.assert_allclose(bond_angles(diamond()), np.degrees(np.arccos(-1 / 3)), atol=1e-6)
    np.testing.assert_allclose(bond_angles(graphite()), 120.0, atol=1e-6)
    assert len(bond_angles(diamond())) == 8 * 6
    assert len(bond_angles(graphite())) == 4 * 3


def test_number_of_angles_follows_coordination():
    for atoms in networks()[:4]:
        numbers = coordination_numbers(atoms)
        assert len(bond_angles(atoms)) == (numbers * (numbers - 1) // 2).sum()


def test_angle_distribution_integrates_to_one():
    centres, density = angle_distribution(networks())
    assert density.sum() * (centres[1] - centres[0]) == pytest.approx(1.0)
    assert 105 < centres[density.argmax()] < 125
    with pytest.raises(ValueError, match="no bond angle"):
        angle_distribution([Atoms("C", cell=[9, 9, 9], pbc=True)])


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize(("crystal", "per_atom"), [(diamond, 2.0), (graphite, 0.5), (silicon_carbide, 2.0)])
def test_crystals_have_six_rings_only(crystal, per_atom, repeat):
    rings = ring_statistics(crystal() * repeat, max_size=8)
    assert rings.pop(6) == pytest.approx(per_atom)
    assert set(rings.values()) == {0.0}


def test_a_cell_and_its_supercell_have_the_same_rings():
    atoms = networks()[4]
    assert ring_statistics(atoms * (2, 1, 1)) == pytest.approx(ring_statistics(atoms))


def test_the_largest_size_does_not_change_the_smaller_ones():
    atoms = networks()[4]
    for largest in (7, 8, 9):
        short, full = ring_statistics(atoms, largest), ring_statistics(atoms, 12)
        assert short == {size: full[size] for size in range(3, largest + 1)}


def test_no_bonds_no_rings_and_the_mean():
    lone = Atoms("C", cell=[9, 9, 9], pbc=True)
    assert set(ring_statistics(lone).values()) == {0.0}
    assert ring_shares([diamond(), lone])[6] == pytest.approx(1.0)

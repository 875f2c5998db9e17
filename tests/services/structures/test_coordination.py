"""Bonds, coordination and contacts."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from tests.services.structures.crystals import diamond, graphite, networks, silicon_carbide

from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.coordination import (
    bond_cutoff,
    coordination_fractions,
    coordination_numbers,
    find_bonds,
    shortest_contact,
)
from nearedge_services.structures.validity import is_valid


def test_cutoffs_are_tabulated_or_from_radii():
    assert bond_cutoff("C", "C") == 1.85
    assert bond_cutoff("Si", "C") == bond_cutoff("C", "Si") == 2.3
    assert bond_cutoff("C", "H") == pytest.approx(1.22 * (0.76 + 0.31))


@pytest.mark.parametrize(("crystal", "number"), [(diamond, 4), (graphite, 3), (silicon_carbide, 4)])
def test_crystals(crystal, number):
    assert set(coordination_numbers(crystal())) == {number}
    assert coordination_fractions(crystal())[number] == 1.0


def test_images_of_one_atom_count():
    chain = Atoms("C", cell=[1.3, 10, 10], pbc=True)
    assert coordination_numbers(chain).tolist() == [2]
    assert shortest_contact(chain) == pytest.approx(1.3)


def test_by_element_and_missing_element():
    methane = molecule("CH4", vacuum=4)
    assert coordination_fractions(methane, "C") == {2: 0, 3: 0, 4: 1}
    assert coordination_fractions(methane, "H")[1] == 1
    with pytest.raises(ValueError, match="no atom to count"):
        coordination_fractions(methane, "O")


def test_bonds_are_mutual():
    bonds = find_bonds(networks()[0])
    forward = set(zip(bonds.i, bonds.j, strict=True))
    assert forward == {(j, i) for i, j in forward}


def test_contacts():
    assert shortest_contact(diamond()) == pytest.approx(3.567 * np.sqrt(3) / 4)
    assert shortest_contact(Atoms("C")) == float("inf")
    far = Atoms("C", cell=[20, 20, 20], pbc=True)
    assert shortest_contact(far) == pytest.approx(20)


def test_validity():
    assert is_valid(diamond())
    broken = diamond()
    broken.positions[1] = broken.positions[0] + [0.9, 0, 0]
    assert not is_valid(broken)
    assert is_valid(molecule("CH4", vacuum=4))  # C–H is short and fine: the limit follows the elements
    lost = diamond()
    lost.positions[0, 0] = np.nan
    assert not is_valid(lost)


@pytest.mark.parametrize(
    ("density", "ranges"),
    [
        (1.6, {2: (0.23, 0.25), 3: (0.75, 0.75), 4: (0.0, 0.02)}),
        (2.0, {2: (0.06, 0.13), 3: (0.84, 0.88), 4: (0.03, 0.07)}),
        (2.75, {2: (0.0, 0.04), 3: (0.5, 0.6), 4: (0.37, 0.5)}),
        (3.0, {2: (0.0, 0.0), 3: (0.31, 0.35), 4: (0.65, 0.69)}),
        (3.4, {2: (0.0, 0.0), 3: (0.09, 0.10), 4: (0.90, 0.91)}),
    ],
)
def test_reference_networks(density, ranges):
    chosen = [atoms for atoms in networks() if abs(density_g_cm3(atoms) - density) < 0.01]
    assert len(chosen) == 2
    for atoms in chosen:
        fractions = coordination_fractions(atoms)
        assert sum(fractions.values()) == pytest.approx(1.0)
        for number, (low, high) in ranges.items():
            assert low - 0.005 <= fractions[number] <= high + 0.005

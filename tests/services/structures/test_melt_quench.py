"""Melt-quenched networks: cell, composition, seeds and bonding."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import TersoffBrenner
from matscipy.calculators.manybody.explicit_forms.tersoff_brenner import Erhart_PRB_71_035211_SiC

from nearedge_db.errors import UserError
from nearedge_services.structures.bond_order import bond_order_potential
from nearedge_services.structures.composition import density_g_cm3, parse_composition
from nearedge_services.structures.coordination import coordination_fractions, shortest_contact
from nearedge_services.structures.melt_quench import (
    MeltQuenchError,
    MeltQuenchSettings,
    hot_frames,
    melt_quench,
    random_start,
)

SHORT = MeltQuenchSettings(melt_steps=50, quench_steps=100, relax_steps=30)


@pytest.mark.parametrize(("formula", "density"), [("C16", 3.5), ("Si8C8", 2.9), ("Si8", 2.3)])
def test_composition_density_and_cell(formula, density):
    composition = parse_composition(formula)
    atoms = melt_quench(composition, density, 1, SHORT)
    assert sorted(atoms.numbers) == sorted(composition.numbers)
    assert density_g_cm3(atoms) == pytest.approx(density)
    np.testing.assert_allclose(atoms.cell.array, np.eye(3) * atoms.cell[0, 0])
    assert atoms.pbc.all()
    assert atoms.calc is None
    assert "momenta" not in atoms.arrays
    assert shortest_contact(atoms) > 1.1


def test_seed_decides_everything():
    composition = parse_composition("C16")
    first, again, other = (melt_quench(composition, 2.6, seed, SHORT) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert np.abs(first.positions - other.positions).max() > 0.1


@pytest.mark.parametrize(("formula", "density"), [("C32", 3.5), ("C64", 1.5), ("Si32C32", 3.2), ("C2", 2.0)])
def test_random_start_keeps_atoms_apart(formula, density):
    composition = parse_composition(formula)
    atoms = random_start(composition, density, np.random.default_rng(0))
    spacing = atoms.cell[0, 0] / len(atoms) ** (1 / 3)
    assert shortest_contact(atoms) > 0.6 * spacing


def test_bond_order_potential_equals_the_plain_one():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rattle(0.2, seed=1)
    atoms.calc = Manybody(**TersoffBrenner(Erhart_PRB_71_035211_SiC))
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = bond_order_potential()
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-10)


def test_bond_order_potential_knows_diamond():
    # Cohesive energy of diamond in Erhart and Albe, table I: -7.3731 eV an atom.
    atoms = bulk("C", "diamond", 3.566, cubic=True)
    atoms.calc = bond_order_potential()
    assert atoms.get_potential_energy() / 8 == pytest.approx(-7.373, abs=0.005)


def test_atoms_out_of_reach_of_each_other_feel_nothing():
    # matscipy's triplet search crashes the interpreter when there is no pair at all
    atoms = Atoms("C2", [[0, 0, 0], [4, 4, 4]], cell=[8, 8, 8], pbc=True)
    atoms.calc = bond_order_potential()
    assert atoms.get_potential_energy() == 0
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((2, 3)))


def test_hot_frames_come_from_one_quench_and_cool_down():
    composition = parse_composition("C16")
    frames = hot_frames(composition, 2.5, 3, 4, SHORT)
    assert len(frames) == 4
    energies = []
    for atoms in frames:
        atoms.calc = bond_order_potential()
        energies.append(atoms.get_potential_energy())
    assert energies[-1] < min(energies[:2])
    again = hot_frames(composition, 2.5, 3, 4, SHORT)
    np.testing.assert_array_equal(again[-1].positions, frames[-1].positions)


def test_explosion_is_an_error():
    with pytest.raises(MeltQuenchError, match="exploded"):
        melt_quench(parse_composition("C16"), 3.0, 0, SHORT.model_copy(update={"timestep_fs": 15.0}))


def test_other_elements_are_a_user_error():
    with pytest.raises(UserError, match="Ge"):
        melt_quench(parse_composition("Ge8"), 4.0, 0)


@pytest.mark.slow
def test_denser_carbon_has_more_fourfold_atoms():
    shares = [coordination_fractions(melt_quench(parse_composition("C64"), rho, 0))[4] for rho in (1.8, 3.4)]
    assert shares[0] < 0.15
    assert shares[1] > shares[0] + 0.15

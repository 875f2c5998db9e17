"""Compositions, cells and densities."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from nearedge_db.errors import UserError
from nearedge_services.structures.composition import Composition, cubic_cell, density_g_cm3, parse_composition


def test_reads_formulas():
    assert parse_composition("C64").counts == {"C": 64}
    assert parse_composition(" Si32 C32 ").counts == {"Si": 32, "C": 32}
    assert parse_composition("SiO2").counts == {"Si": 1, "O": 2}
    assert parse_composition("CH3CH3").counts == {"C": 2, "H": 6}
    assert parse_composition("Si2C").numbers.tolist() == [14, 14, 6]


@pytest.mark.parametrize("text", ["", "64", "c64", "C-4", "C6.5", "Xx3", "X2", "C0", "C64 and more"])
def test_refuses_anything_else(text):
    with pytest.raises(UserError):
        parse_composition(text)


@given(st.dictionaries(st.sampled_from(["C", "Si", "H", "O", "Ge"]), st.integers(1, 500), min_size=1))
def test_formula_is_read_back(counts):
    composition = Composition(counts)
    assert parse_composition(composition.formula) == composition
    assert composition.size == len(composition.numbers) == sum(counts.values())
    assert composition.scaled(3).mass_amu == pytest.approx(3 * composition.mass_amu)


@given(st.floats(0.5, 10))
def test_cell_has_the_density_asked_for(density):
    composition = parse_composition("Si16C48")
    atoms = Atoms(numbers=composition.numbers, cell=cubic_cell(composition, density), pbc=True)
    assert density_g_cm3(atoms) == pytest.approx(density)


def test_density_of_diamond():
    assert density_g_cm3(bulk("C", "diamond", a=3.567)) == pytest.approx(3.515, abs=0.005)


def test_no_density_without_a_cell_and_no_cell_without_a_density():
    with pytest.raises(UserError, match="no periodic cell"):
        density_g_cm3(Atoms("C"))
    for density in (0.0, -1.0, np.nan):
        with pytest.raises(UserError, match="must be positive"):
            cubic_cell(parse_composition("C8"), density)

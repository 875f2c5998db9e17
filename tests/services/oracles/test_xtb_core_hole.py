"""The Z+1 core hole: which atoms and electrons there are, the energy axis, and what it does to carbon."""

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.lattice.hexagonal import Graphite
from tests.services.oracles.contract import OracleContract

from nearedge_db.errors import UserError
from nearedge_services.oracles import xtb
from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleTimeout
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.per_absorber import asked_as
from nearedge_services.oracles.xtb import XtbOracle, XtbSettings
from nearedge_services.oracles.xtb_core_hole import excited, z_plus_one
from nearedge_services.oracles.xtb_xanes import Orbitals

HOLE = XtbSettings(core_hole="z+1")


def rattled_diamond() -> Atoms:
    atoms = bulk("C", "diamond", 3.567, cubic=True)
    atoms.rattle(0.08, seed=3)
    return atoms


class TestXtbCoreHole(OracleContract):
    areas = (0.5, 3.0)  # the empty part of three p functions

    @pytest.fixture(scope="class")
    def oracle(self):
        return make_oracle("xtb", {"core_hole": "z+1"})

    @pytest.fixture(scope="class")
    def other_oracle(self):
        return make_oracle("xtb", {})

    @pytest.fixture(scope="class")
    def hopeless_oracle(self):
        return make_oracle("xtb", {"core_hole": "z+1", "max_iterations": 2})

    @pytest.fixture(scope="class")
    def structure(self):
        return rattled_diamond()


@pytest.fixture(scope="module")
def labels():
    return {
        hole: make_oracle("xtb", {"core_hole": hole}).label(rattled_diamond())
        for hole in ("initial-state", "z+1")
    }


def test_labels_from_before_this_setting_keep_their_hash():
    assert XtbOracle().settings_hash == "a42a0a761e6068bb253c8717356679032b03c34ab8f3ba3e2d11a3d2be1a5919"
    assert make_oracle("xtb", {"core_hole": "initial-state"}).settings_hash == XtbOracle().settings_hash
    assert XtbOracle(HOLE).settings_hash != XtbOracle().settings_hash


def test_energy_and_forces_are_those_of_the_ground_state(labels):
    ground, hole = labels["initial-state"], labels["z+1"]
    assert hole.energy_ev == ground.energy_ev
    np.testing.assert_array_equal(hole.forces_ev_per_a, ground.forces_ev_per_a)
    assert np.abs(hole.xanes - ground.xanes).max() > 0.05 * ground.xanes.max()


def test_carbon_becomes_nitrogen_and_silicon_phosphorus():
    atoms = Atoms("CSi", positions=[(0, 0, 0), (0, 0, 1.9)])
    assert excited(atoms, 0).get_chemical_symbols() == ["N", "Si"]
    assert excited(atoms, 1).get_chemical_symbols() == ["C", "P"]
    assert atoms.get_chemical_symbols() == ["C", "Si"]


def pair_of_levels(levels, electrons: float) -> Orbitals:
    """Two atoms with one p function each, and an orbital on either."""
    return Orbitals(
        np.array(levels), np.eye(2), np.eye(2), np.array([True, True]), np.array([0, 1]), electrons
    )


def test_the_photoelectron_does_not_block_the_lowest_final_state():
    atoms = Atoms("C2", positions=[(0, 0, 0), (0, 0, 2)], cell=[9, 9, 9], pbc=True)
    energies = np.linspace(-8, 8, 641)
    ground = pair_of_levels([-4.0, 4.0], 2.0)  # atom 0 full, atom 1 empty, μ = 0

    def run(cell: Atoms) -> Orbitals:
        # a hole on atom 1 pulls its level from 4 to 1 eV; a third electron, the photoelectron, half fills it
        return pair_of_levels([-4.0, 1.0], 3.0) if cell.numbers[1] == 7 else pair_of_levels([-9.0, 4.0], 3.0)

    spectra, shifts = z_plus_one(atoms, ground, run, 0.05, 0.3, energies)
    np.testing.assert_allclose(shifts, 0.0)
    assert spectra[1].sum() * 0.025 == pytest.approx(1.0, abs=0.01)
    assert energies[spectra[1].argmax()] == pytest.approx(1.0, abs=0.05)


def test_a_common_shift_of_an_excited_cell_is_taken_back():
    atoms = Atoms("C2", positions=[(0, 0, 0), (0, 0, 2)], cell=[9, 9, 9], pbc=True)
    energies = np.linspace(-8, 8, 641)
    ground = pair_of_levels([-4.0, 4.0], 2.0)
    spectra, shifts = z_plus_one(
        atoms, ground, lambda _: pair_of_levels([-4.0 + 2.5, 1.0 + 2.5], 3.0), 0.05, 0.3, energies
    )
    assert shifts[1] == pytest.approx(-2.5)
    assert energies[spectra[1].argmax()] == pytest.approx(1.0, abs=0.05)


def test_one_atom_has_no_far_atom_to_align_with():
    with pytest.raises(BadGeometry, match="second atom"):
        XtbOracle(HOLE).label(bulk("C", "sc", a=1.8))


def test_radon_has_no_next_element():
    XtbOracle().check_elements([86])
    with pytest.raises(UserError, match="At"):
        XtbOracle(HOLE).check_elements([86])


def test_an_excited_cell_that_does_not_converge_is_retryable():
    oracle = XtbOracle(HOLE)
    calculator = oracle.calculator()
    calculator.get_property("energy", rattled_diamond())
    calculator.oracle = XtbOracle(HOLE.model_copy(update={"max_iterations": 2}))
    with pytest.raises(NotConverged, match="core hole"):
        calculator.last_label()


def cell_mean(xanes):
    return xanes.mean(axis=0) / xanes.mean(axis=0).sum()


def highest(energies, spectrum, stop):
    """Energy of the largest value below ``stop``."""
    return energies[np.where(energies < stop, spectrum, 0).argmax()]


def test_silicon_carbide_has_holes_in_both_elements():
    label = XtbOracle(HOLE).label(bulk("SiC", "zincblende", a=4.36))
    assert (label.xanes.max(axis=1) > 0.01).all()


@pytest.mark.slow
def test_the_hole_pulls_the_edge_down_and_its_intensity_to_it():
    ground, hole = XtbOracle(), XtbOracle(HOLE)
    graphite = Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}, size=(5, 2, 1))
    pi = [
        (label.energies_ev, cell_mean(label.xanes))
        for label in (ground.label(graphite), hole.label(graphite))
    ]
    assert 0.3 < highest(*pi[0], 4.5) - highest(*pi[1], 4.5) < 1.5  # the exciton of the π* of graphite
    diamond = bulk("C", "diamond", 3.567, cubic=True).repeat(2)
    edge = [
        (label.energies_ev, cell_mean(label.xanes)) for label in (ground.label(diamond), hole.label(diamond))
    ]
    near = [spectrum[energies < 6].sum() for energies, spectrum in edge]
    assert near[1] > 2 * near[0]
    assert edge[1][1][edge[1][0] < 0].sum() < 1e-3  # still nothing in the gap


def test_absorbers_that_were_done_are_kept_when_the_time_is_over(tmp_path, monkeypatch):
    """The next try goes on with them, also on a rung with more iterations, and gives the same label."""
    monkeypatch.setenv("NEAREDGE_WORK", str(tmp_path))
    atoms, calculate, asked = rattled_diamond(), xtb._excited, []

    def slowly(settings, excited_atoms):
        asked.append(int(np.argmax(excited_atoms.numbers)))
        if len(asked) == 3:
            time.sleep(2.0)
        return calculate(settings, excited_atoms)

    monkeypatch.setattr(xtb, "_excited", slowly)
    with pytest.raises(OracleTimeout):
        make_oracle("xtb", {"core_hole": "z+1", "run": {"seconds": 2.0}}).label(atoms)
    assert asked == list(range(len(asked)))
    assert 0 < len(asked) < len(atoms)
    kept = sorted(int(path.stem) for path in tmp_path.glob("*/*.npz"))
    assert kept == sorted(asked)
    with asked_as(XtbOracle(HOLE).settings_hash):
        label = make_oracle("xtb", {"core_hole": "z+1", "max_iterations": 1000}).label(atoms)
    assert sorted(asked) == list(range(len(atoms))), "none twice"
    assert label.seconds > 2.0, "with what it took over"
    np.testing.assert_allclose(label.xanes, XtbOracle(HOLE).label(atoms).xanes, rtol=1e-6, atol=1e-8)
    assert list(tmp_path.iterdir()) == []


def test_how_it_is_run_changes_no_hash():
    assert make_oracle("xtb", {"core_hole": "z+1", "run": {"seconds": 5}}).settings_hash == (
        XtbOracle(HOLE).settings_hash
    )

"""The xTB oracle: the contract, and the physics of carbon."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.lattice.hexagonal import Graphite
from tests.reference import reference_path
from tests.services.oracles.contract import OracleContract

from nearedge_services.oracles.errors import NotConverged
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.fast_blas import ENVIRONMENT_VARIABLE
from nearedge_services.oracles.xtb import XtbOracle, XtbSettings
from nearedge_services.structures.extxyz import read_structures


def diamond(repeat: int = 1) -> Atoms:
    return bulk("C", "diamond", 3.567, cubic=True).repeat(repeat)


def cell_mean(xanes: np.ndarray) -> np.ndarray:
    mean = xanes.mean(axis=0)
    return mean / mean.sum()


class TestXtb(OracleContract):
    areas = (0.5, 3.0)  # the empty part of three p functions

    @pytest.fixture(scope="class")
    def oracle(self):
        return make_oracle("xtb", {})

    @pytest.fixture(scope="class")
    def other_oracle(self):
        return make_oracle("xtb", {"sigma_ev": 0.5})

    @pytest.fixture(scope="class")
    def hopeless_oracle(self):
        return make_oracle("xtb", {"max_iterations": 2})

    @pytest.fixture(scope="class")
    def structure(self):
        atoms = diamond()
        atoms.rattle(0.08, seed=3)
        return atoms


class TestGfn2(TestXtb):
    @pytest.fixture(scope="class")
    def oracle(self):
        return make_oracle("xtb", {"method": "GFN2-xTB"})


TestGfn2 = pytest.mark.slow(TestGfn2)


@pytest.fixture(scope="module")
def graphite_label():
    return XtbOracle().label(Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}, size=(3, 3, 1)))


@pytest.fixture(scope="module")
def diamond_label():
    return XtbOracle().label(diamond(2))


def test_graphite_has_pi_then_a_gap_then_sigma(graphite_label):
    energies, spectrum = graphite_label.energies_ev, cell_mean(graphite_label.xanes)
    pi, gap, sigma = ((energies >= a) & (energies < b) for a, b in ((-1, 6), (6.5, 7.5), (8, 15)))
    assert energies[spectrum > 0.2 * spectrum.max()][0] < 1.0
    assert spectrum[gap].max() < 0.1 * spectrum[pi].max()
    assert spectrum[sigma].max() > 0.3 * spectrum[pi].max()


def test_diamond_has_nothing_in_its_gap(graphite_label, diamond_label):
    below = diamond_label.energies_ev < 1.5
    assert diamond_label.details["gap_ev"] > 5
    assert cell_mean(diamond_label.xanes)[below].sum() < 1e-3
    assert cell_mean(graphite_label.xanes)[below].sum() > 0.02


def test_equivalent_atoms_have_equal_spectra(diamond_label):
    np.testing.assert_allclose(diamond_label.xanes, np.tile(diamond_label.xanes[0], (64, 1)), atol=1e-4)
    assert np.abs(diamond_label.forces_ev_per_a).max() < 1e-3


def test_silicon_carbide_has_spectra_for_both_elements():
    label = XtbOracle().label(bulk("SiC", "zincblende", a=4.36, cubic=True))
    assert (label.xanes.max(axis=1) > 0.1).all()


def test_energy_of_a_larger_supercell(diamond_label):
    # Γ only: equal once the smaller cell samples the zone well enough.
    large = XtbOracle().label(diamond().repeat((2, 2, 3))).energy_ev / 96
    assert diamond_label.energy_ev / 64 == pytest.approx(large, abs=0.1)


def test_spectrum_is_continuous_in_the_geometry():
    atoms = read_structures(reference_path("ac_nep_dev.extxyz"))[0]
    oracle, rng = XtbOracle(), np.random.default_rng(0)
    direction = rng.normal(size=atoms.positions.shape)
    first = cell_mean(oracle.label(atoms).xanes)
    changes = []
    for step in (1e-3, 1e-2):
        moved = atoms.copy()
        moved.positions += step * direction
        changes.append(np.abs(cell_mean(oracle.label(moved).xanes) - first).max())
    assert changes[0] < 0.3 * changes[1]
    assert changes[1] < 0.1 * first.max()


def test_too_few_iterations_are_retryable():
    with pytest.raises(NotConverged) as caught:
        XtbOracle(XtbSettings(max_iterations=2)).label(diamond())
    assert caught.value.retryable


def test_calculator_recovers_after_a_failure_and_follows_cell_changes():
    oracle, atoms = XtbOracle(), diamond()
    atoms.rattle(0.05, seed=1)
    calculator = oracle.calculator()
    atoms.calc = calculator
    atoms.get_potential_energy()
    atoms.set_cell(atoms.cell * 1.03, scale_atoms=True)
    atoms.rattle(0.02, seed=2)
    assert atoms.get_potential_energy() == pytest.approx(oracle.label(atoms).energy_ev, abs=1e-4)
    np.testing.assert_allclose(calculator.last_label().xanes, oracle.label(atoms).xanes, atol=1e-4)
    other = bulk("SiC", "zincblende", a=4.36, cubic=True)
    assert calculator.label(other).energy_ev == pytest.approx(oracle.label(other).energy_ev, abs=1e-6)


def test_nothing_to_tell_before_the_first_calculation():
    with pytest.raises(RuntimeError, match="nothing"):
        XtbOracle().calculator().last_label()


def test_stress_is_the_strain_derivative():
    atoms, step = diamond(), 1e-3
    atoms.calc = XtbOracle().calculator()
    stress = atoms.get_stress(voigt=False)[0, 0]
    energies = []
    for sign in (1, -1):
        strained = diamond()
        strain = np.eye(3)
        strain[0, 0] += sign * step
        strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
        energies.append(XtbOracle().label(strained).energy_ev)
    assert stress == pytest.approx((energies[0] - energies[1]) / (2 * step * atoms.get_volume()), abs=2e-3)


def test_both_blas_libraries_give_the_same_energy():
    program = (
        "from ase.build import bulk; from nearedge_services.oracles.factory import make_oracle; "
        "a = bulk('C', 'diamond', 3.567, cubic=True); a.rattle(0.05, seed=1); "
        "label = make_oracle('xtb', {}).label(a); print(label.details['blas'], repr(label.energy_ev))"
    )
    environment = {ENVIRONMENT_VARIABLE: "bundled", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    blas, energy = ran.stdout.split()
    atoms = diamond()
    atoms.rattle(0.05, seed=1)
    assert blas == "bundled"
    assert XtbOracle().label(atoms).energy_ev == pytest.approx(float(energy), abs=1e-6)

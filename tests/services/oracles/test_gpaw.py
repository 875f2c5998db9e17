"""The GPAW oracle: the contract, core holes, bands, what it does when things fail, and the reference labels."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from tests.programs import needs, not_installed
from tests.reference import reference_path
from tests.services.oracles.contract import OracleContract

from nearedge_db.errors import UserError
from nearedge_services.oracles import gpaw, gpaw_setups
from nearedge_services.oracles.errors import (
    MissingData,
    NotConverged,
    OracleCrash,
    OracleTimeout,
    UnfitSettings,
    classified,
)
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.gpaw import GpawOracle, GpawSettings, without_photoelectron
from nearedge_services.oracles.leftovers import WORK_VARIABLE
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.structures.extxyz import read_structures

CHEAP = {"cutoff_ev": 200, "density_tolerance": 1e-6, "states_tolerance": 1e-9, "stop_ev": 10.5}


def diamond(seed=3):
    """The primitive cell, distorted."""
    atoms = bulk("C", "diamond", 3.567)
    atoms.rattle(0.05, seed=seed)
    return atoms


@pytest.fixture(autouse=True)
def work(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.setenv(WORK_VARIABLE, str(folder))
    return folder


@pytest.mark.slow
class TestGpaw(OracleContract):
    # a plane-wave basis sees the grid of its exchange-correlation energy: these are the sizes of that
    energy_tolerance_ev = 5e-3
    force_tolerance = 0.06
    spectrum_tolerance = 2e-3

    @pytest.fixture(scope="class")
    def oracle(self):
        needs("gpaw")
        return make_oracle("gpaw", CHEAP)

    @pytest.fixture(scope="class")
    def other_oracle(self):
        return make_oracle("gpaw", {**CHEAP, "sigma_ev": 0.6})

    @pytest.fixture(scope="class")
    def hopeless_oracle(self):
        return make_oracle("gpaw", {**CHEAP, "iterations": 2})

    @pytest.fixture(scope="class")
    def structure(self):
        return diamond()

    def test_stress_is_the_strain_derivative(self, oracle, structure, label):
        energies, step = [], 0.003
        for sign in (1, -1):
            strained = structure.copy()
            strain = np.diag([1 + sign * step, 1, 1])
            strained.set_cell(structure.cell.array @ strain, scale_atoms=True)
            energies.append(oracle.label(strained).energy_ev)
        numerical = (energies[0] - energies[1]) / (2 * step * structure.get_volume())
        # the basis is one of plane waves below a cutoff and changes with the cell (Pulay stress)
        assert label.details["stress_ev_per_a3"][0] == pytest.approx(numerical, abs=0.1)


@pytest.mark.slow
def test_a_core_hole_has_an_absolute_edge_and_continues_after_a_failure(work, monkeypatch):
    needs("gpaw")
    oracle = make_oracle("gpaw", {**CHEAP, "core_hole": "full"})
    atoms, calculate, asked = diamond(), GpawOracle._excited, []

    def failing(self, atoms, ground, absorber):
        asked.append(absorber)
        if len(asked) == 2:
            raise OracleCrash("killed")
        return calculate(self, atoms, ground, absorber)

    monkeypatch.setattr(GpawOracle, "_excited", failing)
    with pytest.raises(OracleCrash):
        oracle.label(atoms)
    assert len(list(work.glob("*/*.npz"))) == 2  # the ground state and the first absorber
    label = oracle.label(atoms)
    assert asked == [0, 1, 1]
    assert list(work.iterdir()) == []
    edges = list(label.details["edges_ev"].values())
    assert len(edges) == 2
    assert 284 < min(edges) <= max(edges) < 294  # experiment: diamond begins at 289 eV
    np.testing.assert_allclose(label.xanes @ oracle.grid.weights, 1.0)


def test_the_photoelectron_does_not_block_the_state_it_is_in():
    energies = np.array(
        [[-5.0, 1.0, 3.0], [-5.2, 1.1, 3.2]]
    )  # two points; one filled band, the next holds the electron
    result = {"energies_ev": energies, "occupations": np.array([[1.0, 0.55, 0.0], [1.0, 0.45, 0.0]])}
    without = without_photoelectron(result, 1.0, 0.1)
    np.testing.assert_allclose(without, [[1, 0, 0], [1, 0, 0]], atol=1e-6)
    half = without_photoelectron(result, 0.5, 0.1)
    assert 2 * half.sum() == pytest.approx(2 * result["occupations"].sum() - 2 * 0.5)
    np.testing.assert_allclose(without_photoelectron(result, 0.0, 0.1), result["occupations"], atol=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("core_hole", ["half", "full"])
def test_with_a_hole_the_lowest_final_state_is_there(core_hole, monkeypatch):
    """Counting the photoelectron as one that was there before takes strength from the edge."""
    needs("gpaw")
    spectra = []
    for counted in (False, True):
        if counted:
            monkeypatch.setattr(gpaw, "without_photoelectron", lambda result, *_: result["occupations"])
        oracle = make_oracle("gpaw", {**CHEAP, "core_hole": core_hole, "absorbers": [0]})
        spectra.append(oracle.label(diamond()).xanes[0])
    first = int((spectra[0] > 0.05 * spectra[0].max()).argmax())
    assert spectra[0][first : first + 5].sum() > 1.03 * spectra[1][first : first + 5].sum()


@pytest.mark.slow
def test_too_few_bands_are_an_error_that_says_how_many():
    needs("gpaw")
    with pytest.raises(NotConverged, match=r"set bands_per_atom to [\d.]+ or more") as caught:
        make_oracle("gpaw", {**CHEAP, "bands_per_atom": 3}).label(diamond())
    wanted = float(caught.value.reason.split("bands_per_atom to ")[1].split()[0])
    assert make_oracle("gpaw", {**CHEAP, "bands_per_atom": wanted}).label(diamond()).xanes.min() >= 0


@pytest.mark.slow
def test_the_reference_labels():
    needs("gpaw")
    atoms = min(read_structures(reference_path("ac_nep_dev_gpaw.extxyz")), key=lambda one: one.cell.volume)
    settings = {"start_ev": -2.0, "stop_ev": 15.0, "step_ev": 0.25, "sigma_ev": 0.5}
    label = make_oracle("gpaw", settings).label(atoms)
    assert label.energy_ev == pytest.approx(atoms.info["REF_energy"], abs=0.01 * len(atoms))
    np.testing.assert_allclose(label.forces_ev_per_a, atoms.arrays["REF_forces"], atol=0.1)
    grid = EnergyGrid(-2.0, 15.0, 0.25)
    reference = np.array(
        [np.interp(grid.energies, atoms.info["xanes_energies"], row) for row in atoms.arrays["xanes"]]
    )
    reference /= (reference @ grid.weights)[:, None]
    difference = np.sqrt(((label.xanes.mean(axis=0) - reference.mean(axis=0)) ** 2).mean())
    assert difference < 1e-3


def test_time_and_crash_are_classified(tmp_path):
    needs("gpaw")
    with pytest.raises(OracleTimeout):
        make_oracle("gpaw", {**CHEAP, "run": {"seconds": 0.1}}).label(diamond())
    with pytest.raises(OracleCrash, match="exit status 1"):
        make_oracle("gpaw", {**CHEAP, "run": {"launcher": ["false"]}}).label(diamond())


@pytest.mark.slow
def test_setups_are_made_once_however_many_ask(tmp_path, monkeypatch):
    needs("gpaw")
    monkeypatch.setenv(gpaw_setups.SETUPS_VARIABLE, str(tmp_path))
    there = gpaw_setups.Installation()
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: there.ensure_setup("C", "half"), range(2)))
    assert folders[0] == folders[1]
    assert [path.name for path in folders[0].iterdir()] == ["C.nearedge-half.PBE"]
    before = (folders[0] / "C.nearedge-half.PBE").stat().st_mtime_ns
    there.ensure_setup("C", "half")
    assert (folders[0] / "C.nearedge-half.PBE").stat().st_mtime_ns == before


@pytest.mark.parametrize(("edge", "where"), [(270.0, "below the zero"), (1839.0, "above the window")])
def test_an_edge_outside_the_window_is_a_failure_of_that_label_only(monkeypatch, edge, where):
    needs("gpaw")

    def run(self, atoms, setups, **_):
        return {"energy_ev": edge if setups["0"] == "full" else 0.0, "reference_ev": 0.0}

    monkeypatch.setattr(GpawOracle, "_run", run)
    oracle = GpawOracle(GpawSettings(core_hole="full"))
    ground = {"energy_ev": 0.0, "reference_ev": 0.0}
    with pytest.raises(
        UnfitSettings, match=rf"{where}.*got {edge:.1f} eV and zero_ev 284; set zero_ev near {edge:.0f}"
    ):
        oracle._excited(diamond(), ground, oracle._gpaw.version, 0)


def test_the_zero_is_that_of_the_absorbers_element(monkeypatch):
    needs("gpaw")

    def run(self, atoms, setups, *, absorbers, **_):
        edges = {"0": 1839.0, "1": 284.5}
        edge = next(edges[who] for who, hole in setups.items() if hole == "full")
        return {
            "energy_ev": edge,
            "reference_ev": 0.0,
            "energies_ev": np.array([[-9.0, 3.0]]),
            "fermi_ev": 0.0,
            "occupations": np.array([[1.0, 0.0]]),
            "strengths": np.ones((1, 1, 2)),
        }

    monkeypatch.setattr(GpawOracle, "_run", run)
    oracle = GpawOracle(GpawSettings(core_hole="full", zero_ev={"Si": 1838.0, "C": 284.0}))
    atoms, ground = bulk("SiC", "zincblende", a=4.36), {"energy_ev": 0.0, "reference_ev": 0.0}
    silicon, carbon = (
        oracle._excited(atoms, ground, oracle._gpaw.version, one)["spectrum"] for one in (0, 1)
    )
    assert [oracle.grid.energies[row.argmax()] for row in (silicon, carbon)] == [4.0, 3.5]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"core_hole": "full"}, "one number for several absorbing elements.*284 for C, Si"),
        ({"core_hole": "half", "zero_ev": {"C": 284.0}}, "no value for an absorbing element.*Si"),
    ],
)
def test_a_zero_for_each_absorbing_element_is_asked_for_before_anything_starts(settings, match):
    needs("gpaw")
    with pytest.raises(UserError, match=match):
        make_oracle("gpaw", settings).check_elements([6, 14])
    make_oracle("gpaw", {**settings, "absorbers": ["C"]}).check_elements([6, 14])
    make_oracle("gpaw", {"core_hole": "initial-state"}).check_elements([6, 14])


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "k_points"), [(2, (1, 1, 1)), (3, (2, 2, 2))])
def test_under_mpi_a_label_is_the_same(monkeypatch, ranks, k_points):
    """Three ranks cannot share eight k-points evenly."""
    needs("gpaw")
    if shutil.which("mpirun") is None:
        not_installed("no mpirun: make dft")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    settings = {**CHEAP, "k_points": k_points}
    launcher = ["mpirun", "--oversubscribe", "-np", str(ranks)]
    alone = make_oracle("gpaw", settings).label(diamond())
    together = make_oracle("gpaw", {**settings, "run": {"launcher": launcher}}).label(diamond())
    assert together.energy_ev == pytest.approx(alone.energy_ev, abs=1e-6)
    np.testing.assert_allclose(together.forces_ev_per_a, alone.forces_ev_per_a, atol=1e-5)
    np.testing.assert_allclose(together.xanes, alone.xanes, atol=1e-5)


@pytest.mark.slow
def test_the_other_eigensolver_gives_the_same_label():
    needs("gpaw")
    usual = make_oracle("gpaw", CHEAP).label(diamond())
    other = make_oracle("gpaw", {**CHEAP, "run": {"eigensolver": "cg"}}).label(diamond())
    assert other.energy_ev == pytest.approx(usual.energy_ev, abs=1e-5)
    np.testing.assert_allclose(other.xanes, usual.xanes, atol=1e-4)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no package gpaw')", "no package gpaw"),
        (None, "No such file"),
    ],
)
def test_without_gpaw_one_line_says_how_to_get_it(tmp_path, program, said):
    python = tmp_path / "python"
    if program is not None:
        python.write_text(f"#!{sys.executable}\n{program}\n")
        python.chmod(0o755)
    with pytest.raises(UserError, match="make dft") as caught:
        make_oracle("gpaw", {"run": {"python": str(python)}})
    assert said in str(caught.value)
    with pytest.raises(MissingData, match="make dft"), classified():
        GpawOracle(GpawSettings(run={"python": str(python)})).label(diamond())


def test_another_interpreter_is_asked_for_its_own_gpaw(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho \'["99.1", "/there/setups", false]\'\n')
    python.chmod(0o755)
    there = gpaw_setups.Installation(str(python))
    assert there.version == "99.1"
    assert there.data_folder == Path("/there/setups")
    assert there.setups_folder.name == "99.1"
    with pytest.raises(UserError, match="setup of an element"):
        there.check_elements([6])
    with pytest.raises(UserError, match="without MPI"):
        there.check(["sh"])
    with pytest.raises(UserError, match="launcher of the oracle gpaw cannot be found; got no-such-mpirun"):
        there.check(["no-such-mpirun", "-np", "4"])


def test_how_it_is_run_does_not_change_the_hash():
    first = GpawOracle(GpawSettings())
    second = GpawOracle(GpawSettings(run={"seconds": 5, "launcher": ["mpirun"], "workers": 2}))
    assert first.settings_hash == second.settings_hash
    assert first.settings_hash != GpawOracle(GpawSettings(core_hole="half")).settings_hash


def test_a_spectrum_is_broadened_weighed_and_normalised():
    oracle = GpawOracle(GpawSettings(sigma_ev=0.5))
    result = {
        "energies_ev": np.array([[1.0, 8.0, 12.0]]),
        "fermi_ev": np.array(3.0),
        "occupations": np.array([[1.0, 0.0, 0.5]]),
        "strengths": np.array([[[9.0, 1.0, 2.0]]]),
    }
    spectrum = oracle._spectrum(result, 0, 0.0, 284.0)
    assert oracle.grid.weights @ spectrum == pytest.approx(1.0)
    peaks = [spectrum[oracle.grid.energies == energy][0] for energy in (-2.0, 5.0, 9.0)]
    assert peaks[0] < 1e-9
    assert peaks[2] / peaks[1] == pytest.approx((284 + 9) / (284 + 5), rel=1e-3)


def test_results_are_plain_arrays(tmp_path, monkeypatch):
    """What the other process leaves is read without unpickling."""
    folder = tmp_path / "answer"
    folder.mkdir()
    np.savez(folder / "result.npz", value=np.array([{"a": 1}], dtype=object), allow_pickle=True)

    class Session:
        def run(self, *_, **__):
            class Ran:
                def check(self):
                    """Well ended."""

            return Ran()

    session = Session()
    session.folder = folder
    with pytest.raises(ValueError, match="pickle"):
        GpawOracle()._work(session, {"task": "calculate"}, [])
    assert json.loads((folder / "job.json").read_text()) == {"task": "calculate"}

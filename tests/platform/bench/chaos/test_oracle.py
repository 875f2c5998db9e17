"""The oracle of the bench: the labels of another one, unless the plan says otherwise; and no oracle of the program."""

import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from nearedge.bench.chaos.journal import Journal
from nearedge.bench.chaos.oracle import HOOK, JOURNAL_FILE, PLAN_VARIABLE, FaultyOracle, install
from nearedge.bench.chaos.plan import OraclePlan
from nearedge_db.errors import UserError
from nearedge_db.hashing import structure_hash
from nearedge_services.oracles import factory
from nearedge_services.oracles.base import Label
from nearedge_services.oracles.errors import NotConverged
from nearedge_services.oracles.xtb import XtbOracle


class CalmOracle(XtbOracle):
    """Labels by a formula."""

    def label(self, atoms):
        n_energies = 121
        return Label(
            -1.0, np.zeros((len(atoms), 3)), np.ones((len(atoms), n_energies)), np.zeros(n_energies), 0.0
        )


class StubbornOracle(XtbOracle):
    """Never converges."""

    def label(self, atoms):
        raise NotConverged("not after 250 iterations")


@pytest.fixture
def atoms():
    return Atoms("C2", positions=[[0, 0, 0], [1.4, 0, 0]], cell=[5, 5, 5], pbc=True)


def faulty(folder, atoms, fault=None, inner=None):
    key = structure_hash(atoms.numbers, atoms.positions, atoms.cell.array)
    plan = OraclePlan(str(folder), 0, {} if fault is None else {key: fault}, 0.0, 0.0)
    return FaultyOracle(inner or CalmOracle(), plan)


def whats(folder):
    return [(line.what, line.note) for line in Journal(folder / JOURNAL_FILE).read()]


def test_without_a_fault_the_label_is_the_other_oracles(tmp_path, atoms):
    label = faulty(tmp_path, atoms).label(atoms)
    assert label.xanes.shape == (2, 121)
    assert whats(tmp_path) == [("begun", ""), ("ended", "")]


def test_it_is_the_same_oracle_to_the_ledger():
    plan = OraclePlan("unused", 0, {}, 0.0, 0.0)
    assert FaultyOracle(XtbOracle(), plan).settings_hash == XtbOracle().settings_hash
    assert FaultyOracle(XtbOracle(), plan).name == "xtb"


def test_numbers_that_are_none_once(tmp_path, atoms):
    oracle = faulty(tmp_path, atoms, "not a number")
    assert np.isnan(oracle.label(atoms).xanes).all()
    assert np.isfinite(oracle.label(atoms).xanes).all()
    assert [what for what, _ in whats(tmp_path)] == ["begun", "fault", "begun", "ended"]


def test_arrays_of_too_few_atoms(tmp_path, atoms):
    label = faulty(tmp_path, atoms, "wrong shape").label(atoms)
    assert (label.xanes.shape, label.forces_ev_per_a.shape) == ((1, 121), (1, 3))


def test_an_error_of_the_other_oracle_is_written_down(tmp_path, atoms):
    with pytest.raises(NotConverged):
        faulty(tmp_path, atoms, inner=StubbornOracle()).label(atoms)
    assert whats(tmp_path) == [("begun", ""), ("failed", "NotConverged: not after 250 iterations")]


def test_a_crash_ends_the_process_and_is_written_down(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import test_oracle as own; "
        "atoms = own.Atoms('C', cell=[3, 3, 3], pbc=True); own.faulty(Path(sys.argv[1]), atoms, 'crash').label(atoms)"
    )
    here = __file__.rpartition("/")[0]
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path), here], check=False, timeout=120)
    assert result.returncode == -9
    assert whats(tmp_path) == [("begun", ""), ("fault", "crash")]


def test_it_takes_the_place_of_xtb_only_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(factory, "ORACLES", dict(factory.ORACLES))
    names = set(factory.ORACLES)
    assert isinstance(factory.make_oracle("xtb"), XtbOracle)
    OraclePlan(str(tmp_path), 0, {}, 0.0, 0.0).save(tmp_path / "plan.json")
    monkeypatch.setenv(PLAN_VARIABLE, str(tmp_path / "plan.json"))
    install()
    assert isinstance(factory.make_oracle("xtb"), FaultyOracle)
    assert set(factory.ORACLES) == names


def test_outside_of_the_bench_it_cannot_be_installed_or_asked_for(monkeypatch):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    with pytest.raises(KeyError, match=PLAN_VARIABLE):
        install()
    assert isinstance(factory.make_oracle("xtb"), XtbOracle)
    for name in ("faulty", "chaos", HOOK):
        with pytest.raises(UserError, match="unknown oracle"):
            factory.make_oracle(name)

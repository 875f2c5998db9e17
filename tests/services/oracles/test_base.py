"""Errors, the factory, and the checks all oracles share."""

import numpy as np
import pytest
from ase.build import bulk
from tests.services.oracles.contract import assert_pickles

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Label, check_geometry, check_label, check_shapes
from nearedge_services.oracles.errors import (
    BadGeometry,
    MissingData,
    NotConverged,
    NotFinite,
    OracleCancelled,
    OracleCrash,
    OracleError,
    OracleTimeout,
    OutOfMemory,
)
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.spectra.grid import EnergyGrid


def label(**changes) -> Label:
    values = {
        "energy_ev": -1.0,
        "forces_ev_per_a": np.zeros((2, 3)),
        "xanes": np.ones((2, 5)),
        "energies_ev": np.arange(5.0),
        "seconds": 0.1,
    }
    return Label(**{**values, **changes})


def test_only_some_failures_are_worth_another_try():
    retryable = {kind for kind in OracleError.__subclasses__() if kind.retryable}
    assert retryable == {NotConverged, OracleCrash, OracleTimeout, OutOfMemory, OracleCancelled, MissingData}


@pytest.mark.parametrize("kind", OracleError.__subclasses__())
def test_errors_cross_process_borders_as_one_line(kind):
    error = kind("two\nlines")
    assert error.reason == "two lines"
    assert_pickles(error)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"energy_ev": np.nan}, NotFinite),
        ({"forces_ev_per_a": np.full((2, 3), np.inf)}, NotFinite),
        ({"xanes": np.full((2, 5), np.nan)}, NotFinite),
        ({"forces_ev_per_a": np.full((2, 3), 150.0)}, BadGeometry),
    ],
)
def test_absurd_results_are_no_labels(changes, error):
    assert check_label(label()) is not None
    with pytest.raises(error):
        check_label(label(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"forces_ev_per_a": np.zeros((1, 3))},
        {"xanes": np.ones((1, 5))},
        {"xanes": np.ones((2, 4))},
        {"xanes": np.ones(5)},
        {"energies_ev": np.arange(4.0)},
    ],
)
def test_arrays_of_another_shape_are_the_programs_fault(changes):
    grid = EnergyGrid(0.0, 4.0, 1.0)
    assert check_shapes(label(), 2, grid) is not None
    with pytest.raises(OracleCrash, match="instead of"):
        check_shapes(label(**changes), 2, grid)


def test_geometry_without_atoms_or_volume():
    atoms = bulk("C", "diamond", 3.567, cubic=True)
    check_geometry(atoms)
    with pytest.raises(BadGeometry, match="no atoms"):
        check_geometry(atoms[:0])
    atoms.cell[2] = atoms.cell[1]
    with pytest.raises(BadGeometry, match="volume"):
        check_geometry(atoms)


def test_unknown_oracle_names_the_known_ones():
    with pytest.raises(UserError, match="xtb"):
        make_oracle("dft", {})


def test_bad_value_names_the_setting():
    with pytest.raises(UserError, match="sigma_ev"):
        make_oracle("xtb", {"sigma_ev": -1})
    with pytest.raises(UserError, match="grid"):
        make_oracle("xtb", {"start_ev": 30.0})

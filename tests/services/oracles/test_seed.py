"""Seeds: what is labelled, from which calculations, and the bookkeeping."""

import numpy as np
import pytest

from nearedge_db.errors import UserError
from nearedge_services.oracles import seed as seed_module
from nearedge_services.oracles.errors import (
    BadGeometry,
    NotConverged,
    OracleCancelled,
    OracleCrash,
    OracleTimeout,
)
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.seed import SeedSettings, make_seed
from nearedge_services.oracles.xtb import XtbCalculator, XtbOracle
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_fractions
from nearedge_services.structures.extxyz import labelled
from nearedge_services.structures.melt_quench import MeltQuenchError, MeltQuenchSettings

SHORT = MeltQuenchSettings(melt_steps=50, quench_steps=100, relax_steps=30)
CARBON = parse_composition("C16")


@pytest.fixture(scope="module")
def result():
    settings = SeedSettings(
        relax_steps=8, fmax_ev_per_a=0.01, path_frames=3, rattle_a=(0.05, 0.1), melt_quench=SHORT
    )
    return make_seed(make_oracle("xtb"), CARBON, 2.6, 5, settings)


def test_all_frames_are_labelled_and_share_a_group(result):
    frames = [*result.path, *result.rattled, result.final]
    assert [len(result.path), len(result.rattled)] == [3, 2]
    for atoms in frames:
        assert labelled(atoms)
        assert atoms.info["group"] == "seed-5"
        assert atoms.info["seed"] == 5
        assert atoms.info["density_g_cm3"] == 2.6
        assert atoms.calc is None


def test_the_relaxation_goes_downhill_within_its_steps(result):
    energies = [atoms.info["REF_energy"] for atoms in (*result.path, result.final)]
    assert energies[-1] < energies[0]
    assert result.steps == 8
    assert not result.converged


def test_labels_belong_to_their_frames(result):
    oracle = make_oracle("xtb")
    for atoms in (result.path[1], result.final):
        fresh = oracle.label(atoms)
        assert atoms.info["REF_energy"] == pytest.approx(fresh.energy_ev, abs=1e-3)
        np.testing.assert_allclose(atoms.arrays["REF_forces"], fresh.forces_ev_per_a, atol=0.02)
        np.testing.assert_allclose(atoms.arrays["xanes"], fresh.xanes, atol=2e-3)


def test_no_calculation_is_done_twice(monkeypatch):
    calls = []
    original = XtbCalculator._converge
    monkeypatch.setattr(
        XtbCalculator, "_converge", lambda self, atoms: calls.append(1) or original(self, atoms)
    )
    settings = SeedSettings(relax_steps=3, fmax_ev_per_a=0.001, path_frames=2, rattle_a=(), melt_quench=SHORT)
    make_seed(make_oracle("xtb"), CARBON, 2.6, 5, settings)
    assert len(calls) == 4


def test_without_relaxation_there_is_one_frame():
    result = make_seed(make_oracle("xtb"), CARBON, 2.6, 5, SeedSettings(relax_steps=0, melt_quench=SHORT))
    assert result.path == []
    assert len(result.rattled) == len(SeedSettings().rattle_a)
    assert labelled(result.final)


def test_a_failed_melt_quench_is_an_oracle_error(monkeypatch):
    def explode(*_):
        raise MeltQuenchError("exploded")

    monkeypatch.setattr(seed_module, "melt_quench", explode)
    with pytest.raises(BadGeometry, match="exploded"):
        make_seed(make_oracle("xtb"), CARBON, 2.6, 5)


def test_unknown_elements_are_refused_before_any_work():
    with pytest.raises(UserError, match="U"):
        make_seed(make_oracle("xtb"), parse_composition("U8"), 19.0, 0)


def test_rattled_frames_are_the_final_one_displaced_as_asked(result):
    for size, atoms in zip((0.05, 0.1), result.rattled, strict=True):
        moved = atoms.positions - result.final.positions
        assert moved.std() == pytest.approx(size, rel=0.35)
        assert atoms.info["REF_energy"] > result.final.info["REF_energy"]


@pytest.mark.parametrize("error", [OracleCrash("killed"), OracleTimeout("too long"), NotConverged("no")])
def test_a_displaced_copy_that_fails_costs_nothing_else(error):
    class Failing(XtbOracle):
        def label(self, atoms):
            raise error

    settings = SeedSettings(relax_steps=1, path_frames=1, rattle_a=(0.05,), melt_quench=SHORT)
    result = make_seed(Failing(), parse_composition("C8"), 2.6, 1, settings)
    assert result.rattled == []
    assert "REF_energy" in result.final.info


def test_a_seed_that_nobody_wants_ends():
    class Cancelled(XtbOracle):
        def label(self, atoms):
            raise OracleCancelled("nobody wants it")

    settings = SeedSettings(relax_steps=1, path_frames=1, rattle_a=(0.05,), melt_quench=SHORT)
    with pytest.raises(OracleCancelled):
        make_seed(Cancelled(), parse_composition("C8"), 2.6, 1, settings)


@pytest.mark.slow
def test_relaxed_dense_carbon_is_half_fourfold():
    finals = [make_seed(make_oracle("xtb"), parse_composition("C32"), rho, 1).final for rho in (2.0, 3.2)]
    low, high = (coordination_fractions(atoms)[4] for atoms in finals)
    assert low < 0.3
    assert high > 0.4

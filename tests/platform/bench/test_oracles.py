"""The bench ``oracles``: with the oracle that needs nothing, and without those that are not installed."""

import json

import numpy as np
import pytest
from ase.build import bulk

from nearedge.bench import oracle_spectra
from nearedge.bench.base import BenchOptions
from nearedge.bench.oracle_cases import CASES, SERIES, SHORT_CASES, Case, Series, diamond, graphite
from nearedge.bench.oracle_networks import chosen, make_or_read_networks, rank_networks
from nearedge.bench.oracle_rows import Crystal
from nearedge.bench.oracle_spectra import SpectraFolder
from nearedge.bench.oracles import OraclesBench
from nearedge.bench.record import document
from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import NotConverged
from nearedge_services.oracles.factory import ORACLES, make_oracle
from nearedge_services.oracles.xtb import XtbOracle
from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.extxyz import write_structures

TINY = {"xtb": Case("xtb", graphite=(1, 1, 1), absorbers=None, network={})}
TINY_SERIES = [
    Series("xtb", "cells", "cell", ((1, 1, 1), (2, 1, 1))),
    Series("xtb", "σ", "sigma_ev", (0.7, 0.6)),
]


def quiet(share, text):
    """Nobody watches."""


def rattled(count):
    frames = [bulk("C", "diamond", 3.567 + 0.05 * seed, cubic=True) for seed in range(count)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.08, seed=seed)
    return frames


@pytest.fixture
def options(tmp_path):
    reference = tmp_path / "networks.extxyz"
    write_structures(reference, rattled(4))
    return BenchOptions(tmp_path, reference=reference)


def test_every_figure_can_be_drawn_and_recorded(options, tmp_path):
    bench = OraclesBench(TINY, TINY_SERIES)
    result = bench.run(options, quiet)
    titles = [row.what for row in result.rows]
    assert sum("against" in title for title in titles) == 4
    assert any("not compared with gpaw" in title for title in titles)
    json.dumps(document(result, options, 1.0))
    bench.draw(result, tmp_path / "oracles.png")
    for name in ("oracles.png", "oracles-convergence.png"):
        assert (tmp_path / name).stat().st_size > 5000


def test_what_was_calculated_is_not_calculated_again(options, monkeypatch):
    first = OraclesBench(TINY, []).run(options, quiet)

    def label(self, atoms):
        raise AssertionError("calculated again")

    monkeypatch.setattr(XtbOracle, "label", label)
    again = OraclesBench(TINY, []).run(options, quiet)
    assert list(map(repr, again.rows)) == list(map(repr, first.rows))  # a NaN is not itself


def test_a_failed_calculation_is_a_row_and_the_others_go_on(options, monkeypatch):
    label = XtbOracle.label

    def failing(self, atoms):
        if self.settings.sigma_ev == 0.7:
            raise NotConverged("no luck")
        return label(self, atoms)

    monkeypatch.setattr(XtbOracle, "label", failing)
    cases = {
        "xtb, other": Case("xtb", {"sigma_ev": 0.7}, graphite=(2, 2, 1), diamond=1, absorbers=None),
        **TINY,
    }
    result = OraclesBench(cases, []).run(options, quiet)
    assert list(result.data["crystals"]) == ["xtb"]
    failed = [row for row in result.rows if "no luck" in row.what]
    assert len(failed) == 2
    assert not any(row.passed for row in failed)


def test_an_oracle_that_is_not_installed_is_a_row(options, monkeypatch):
    def make(name, settings=None):
        if name == "feff":
            raise UserError("no feff", got="nothing", fix="install it")
        return make_oracle(name, settings)

    monkeypatch.setattr(oracle_spectra, "make_oracle", make)
    result = OraclesBench({**TINY, "feff": Case("feff")}, []).run(options, quiet)
    (row,) = [row for row in result.rows if row.what.startswith("feff")]
    assert "install it" in row.what
    assert row.passed is None


def test_labels_of_a_file_stand_for_gpaw(tmp_path):
    oracle = make_oracle("xtb")
    frames = [oracle.label(atoms).attach(atoms) for atoms in rattled(4)]
    axis = oracle.grid.energies
    mean = np.mean([atoms.arrays["xanes"].mean(axis=0) for atoms in frames], axis=0)
    crystal = Crystal(axis, np.roll(mean, -8), mean)
    cases = {"gpaw": Case("gpaw", network={}), "xtb": Case("xtb", network={})}
    rows, _ = rank_networks(
        SpectraFolder(tmp_path), cases, dict.fromkeys(cases, crystal), frames, lambda text: None
    )
    ranked = {row.what: row.measured for row in rows if "with gpaw" in row.what}
    # distances and π*/σ* areas, of absorbers and of networks
    assert len(ranked) == 4
    assert list(ranked.values()) == pytest.approx([1.0] * 4)


def test_labels_of_another_oracle_do_not_stand_for_gpaw(tmp_path, monkeypatch):
    frames = [make_oracle("xtb").label(atoms).attach(atoms) for atoms in rattled(1)]
    axis, mean = frames[0].info["xanes_energies"], frames[0].arrays["xanes"].mean(axis=0)
    asked = []

    def find(self, title, oracle, settings, atoms):
        asked.append(oracle)

    monkeypatch.setattr(SpectraFolder, "find", find)
    crystal = Crystal(axis, np.roll(mean, -8), mean)
    for oracle in ("xtb", "gpaw"):
        frames[0].info["oracle"] = oracle
        cases = {"gpaw": Case("gpaw", network={})}
        rank_networks(SpectraFolder(tmp_path), cases, {"gpaw": crystal}, frames, lambda text: None)
    assert asked == ["gpaw"]  # the labels of xtb


def test_networks_too_large_for_an_oracle_are_a_row(options):
    cases = {"xtb": Case("xtb", absorbers=None, network={}, largest_network=4)}
    result = OraclesBench(cases, []).run(options, quiet)
    assert any("8 atoms take it too long" in row.what for row in result.rows)
    assert not any("rank" in row.what for row in result.rows)


def test_networks_of_a_file_are_spread_over_its_densities(tmp_path):
    path = tmp_path / "many.extxyz"
    frames = [bulk("C", "diamond", 3.5 + 0.02 * n, cubic=True) for n in range(11)]
    write_structures(path, frames)
    found = make_or_read_networks(BenchOptions(tmp_path, reference=path))
    volumes = sorted(atoms.get_volume() for atoms in found)
    assert len(found) == 6
    assert volumes[0] == pytest.approx(frames[0].get_volume())
    assert volumes[-1] == pytest.approx(frames[-1].get_volume())
    write_structures(path, [bulk("Si", "diamond", 5.43)])
    with pytest.raises(UserError, match="carbon"):
        make_or_read_networks(BenchOptions(tmp_path, reference=path))


def test_chosen_absorbers_stand_for_all_coordinations():
    atoms = bulk("C", "diamond", 3.567, cubic=True).repeat(2)
    del atoms[[0]]
    assert sorted(set(coordination_numbers(atoms))) == [3, 4]
    few = chosen(atoms, 16)
    assert np.count_nonzero(coordination_numbers(atoms)[list(few)] == 3) == 1
    assert chosen(atoms, None) is None


def test_all_settings_are_those_of_an_oracle():
    """A misspelt one would show only after a long time, or never where the oracle is missing."""
    settings = {name: _settings_class(name) for name in ORACLES}
    for case in [*CASES.values(), *SHORT_CASES.values()]:
        for values in (case.for_crystal("graphite"), case.for_crystal("diamond"), case.for_network(None)):
            settings[case.oracle](**values)
    for series in SERIES:
        for value in series.values:
            settings[series.oracle](**series.member(value).for_crystal(series.crystal))


def _settings_class(name):
    from importlib import import_module

    return getattr(import_module(f"nearedge_services.oracles.{name}"), f"{name.capitalize()}Settings")


def test_crystals_have_their_densities():
    from nearedge_services.structures.composition import density_g_cm3

    assert density_g_cm3(graphite((2, 1, 1))) == pytest.approx(2.27, abs=0.01)
    assert density_g_cm3(diamond(0)) == pytest.approx(density_g_cm3(diamond(1)))
    assert density_g_cm3(diamond(1)) == pytest.approx(3.515, abs=0.01)


def test_crystals_beside_networks_are_calculated_as_these_are():
    """An oracle that has coarser settings for networks has them for what these are compared with."""
    plain = Case("xtb", {"sigma_ev": 0.5}, network={})
    assert plain.like_networks is plain
    own = Case("espresso", {"image_distance_a": 4.0}, {"cutoff_ry": 50}, network={}, ends={"cutoff_ry": 30})
    assert own.like_networks.for_crystal("diamond") == {"cutoff_ry": 30, "absorbers": [0]}

"""What the spectrum alone says: from unbent networks, in the target's window, and honest where it knows nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.platform.inferred_campaign import (
    GRID_EV,
    ORACLE_SETTINGS,
    Network,
    Setup,
    make,
    networks,
    spectrum_of,
)

from nearedge.inferred import LEAST_NETWORKS, Inferred, infer
from nearedge.inferred_words import basis, verdict
from nearedge.labelled import PROPERTIES, Recovered, read_labelled
from nearedge.report.data import read_report
from nearedge.report.page import render
from nearedge.summary import summarise
from nearedge_db.hashing import settings_hash
from nearedge_db.store import find_campaign
from nearedge_services import weights
from nearedge_services.inference.library import Library, write_library
from nearedge_services.inference.posterior import Interval
from nearedge_services.spectra.distance import area_normalised
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.weights.labels import LabelledBy

TRUTH = (2.7, 0.45)
TARGET = spectrum_of(*TRUTH)
SEEDS = networks(24)
SETUP = Setup(TARGET, SEEDS)
WINDOW = (GRID_EV >= 1.0) & (GRID_EV <= 15.0)
BENT = tuple(Network(3.3 + 0.01 * k, 0.9, spectrum=TARGET * (1 + 1e-3 * k)) for k in range(12))
"""Far too dense, and with the target's spectrum."""
STRANGE = TARGET + 0.4 * np.exp(-0.5 * ((GRID_EV - 12.0) / 0.6) ** 2)


def inferred(folder, setup=SETUP) -> Inferred:
    database = make(folder, setup)
    with database.session() as session:
        found = infer(session, find_campaign(session, "demo"), read_labelled(session, "demo"))
    database.dispose()
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return inferred(tmp_path_factory.mktemp("plain"))


def recovered(density: float, four: float) -> dict[str, Recovered]:
    values = dict(zip(PROPERTIES, (density, 0.05, 0.95 - four, four), strict=True))
    return {name: Recovered(value, 0.05, value - 0.05, value + 0.05, 10) for name, value in values.items()}


def test_the_truth_is_in_the_intervals_and_they_are_narrow(plain):
    density, four = plain.properties["density_g_cm3"], plain.properties["cn4_fraction"]
    assert density.holds(TRUTH[0])
    assert four.holds(TRUTH[1])
    assert density.high - density.low < 0.35
    assert set(plain.properties) == set(PROPERTIES)
    assert (plain.networks, plain.shipped, plain.known, plain.refusal) == (24, False, True, None)


def test_guided_and_unguided_structures_have_no_part_in_it(plain, tmp_path):
    setup = replace(SETUP, guided=BENT, baseline=[replace(one, density=one.density + 0.01) for one in BENT])
    assert inferred(tmp_path, setup) == plain
    as_seeds = inferred(tmp_path / "seeds", replace(SETUP, seeds=[*SEEDS, *BENT]))
    assert as_seeds.properties["cn4_fraction"].high > 0.7 > plain.properties["cn4_fraction"].high


def test_nothing_outside_the_window_counts(tmp_path):
    rng = np.random.default_rng(5)
    spoilt = [
        replace(
            one, spectrum=np.where(WINDOW, (1 + rng.random()) * one.intensity(), rng.random(len(GRID_EV)))
        )
        for one in SEEDS
    ]
    clean = inferred(tmp_path / "clean", replace(SETUP, mask=WINDOW))
    found = inferred(tmp_path / "spoilt", Setup(np.where(WINDOW, TARGET, 9.0), spoilt, mask=WINDOW))
    for name in PROPERTIES:
        assert found.properties[name].median == pytest.approx(clean.properties[name].median, abs=2e-3)
        assert found.properties[name].high == pytest.approx(clean.properties[name].high, abs=2e-3)
    assert found.typicality == pytest.approx(clean.typicality, rel=1e-2)
    assert clean.properties["density_g_cm3"].holds(TRUTH[0])


def test_other_elements_spectra_have_no_part_in_it(plain, tmp_path):
    """In the made-up campaign the rows of atoms that are not carbon hold nonsense."""
    both = inferred(tmp_path, replace(SETUP, formula="Si4C4"))
    assert both.properties["density_g_cm3"].median == pytest.approx(
        plain.properties["density_g_cm3"].median, abs=0.01
    )
    assert "none comes with the program for C-Si" in both.misfit


def test_frames_of_one_network_count_once(tmp_path):
    frames = [replace(one, group=f"network-{k // 2}") for k, one in enumerate(SEEDS)]
    found = inferred(tmp_path, replace(SETUP, seeds=frames))
    alone = inferred(tmp_path / "alone", replace(SETUP, seeds=SEEDS[1::2]))
    assert found.networks == len(SEEDS) // 2
    assert found.properties["density_g_cm3"].median == pytest.approx(
        alone.properties["density_g_cm3"].median, abs=2e-3
    )


def test_a_strange_spectrum_is_called_strange_and_judges_nobody(tmp_path):
    found = inferred(tmp_path, replace(SETUP, target=STRANGE))
    assert found.typicality < 0.01
    assert not found.known
    wrong = recovered(3.4, 0.99)
    assert found.outside(wrong) == []
    assert "does not know such spectra" in verdict(found, wrong)
    assert "disagree" not in verdict(found, wrong)


def test_too_few_networks_are_refused_in_words(tmp_path):
    found = inferred(tmp_path, replace(SETUP, seeds=networks(LEAST_NETWORKS - 1)))
    assert found.properties == {}
    assert not found.known
    said = verdict(found, recovered(*TRUTH))
    assert f"too few networks, {LEAST_NETWORKS - 1} starting structures where {LEAST_NETWORKS}" in said
    assert basis(found) is None
    assert inferred(tmp_path / "enough", replace(SETUP, seeds=networks(LEAST_NETWORKS))).refusal is None


def test_networks_of_one_density_are_refused_in_words(tmp_path):
    same = [replace(one, density=2.5, group=f"g{k}") for k, one in enumerate(SEEDS)]
    assert "too much alike" in inferred(tmp_path, replace(SETUP, seeds=same)).refusal


def test_without_a_starting_structure_there_is_nothing_to_infer_from(tmp_path):
    assert "no starting structure" in inferred(tmp_path, replace(SETUP, seeds=())).refusal


def test_agreement_and_disagreement_are_said_with_their_numbers(plain):
    right, wrong = recovered(*TRUTH), recovered(3.3, TRUTH[1])
    assert plain.outside(right) == []
    assert "agree with what the spectrum alone says" in verdict(plain, right)
    assert plain.outside(wrong) == ["density_g_cm3"]
    said = verdict(plain, wrong)
    interval = plain.properties["density_g_cm3"]
    assert (
        f"density 3.30 instead of {interval.median:.2f} ({interval.low:.2f} to {interval.high:.2f})" in said
    )
    assert "share" not in said


def test_what_looks_the_same_is_no_disagreement():
    found = Inferred(properties={"cn2_fraction": Interval(0.05, 0.004, 0.1)}, typicality=0.5)
    assert found.outside({"cn2_fraction": Recovered(0.0, 0.0, 0.0, 0.0, 10)}) == []
    assert found.outside({"cn2_fraction": Recovered(0.12, 0.0, 0.0, 0.0, 10)}) == ["cn2_fraction"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A library that comes with the program, labelled by the campaigns' oracle."""
    folder = tmp_path / "weights" / "carbon"
    folder.mkdir(parents=True)
    monkeypatch.setattr(weights, "ROOT", folder.parent)
    grid = EnergyGrid(0.0, 20.0, 0.25)
    members = networks(40, seed=9)
    spectra = area_normalised([one.intensity() for one in members], grid.weights)
    shares = np.array([[0.05, 0.95 - one.four, one.four] for one in members])
    densities = np.array([one.density for one in members])
    write_library(
        folder / weights.LIBRARY_FILE, Library(grid, spectra, densities, shares, tuple(map(str, range(40))))
    )
    LabelledBy("xtb", settings_hash("xtb", ORACLE_SETTINGS)).write(folder)
    return folder


def test_the_shipped_library_is_used_where_it_fits(program, tmp_path):
    found = inferred(tmp_path / "run", replace(SETUP, seeds=networks(2)))
    assert (found.networks, found.shipped, found.misfit) == (40, True, None)
    assert found.properties["density_g_cm3"].holds(TRUTH[0])
    assert "40 networks that come with the program" in basis(found)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (LabelledBy("xtb", "f" * 64), "labelled with other settings"),
        (LabelledBy("gpaw", settings_hash("xtb", ORACLE_SETTINGS)), "labelled by gpaw"),
    ],
)
def test_a_library_of_another_oracle_is_not_used(program, tmp_path, plain, other, why):
    other.write(program)
    found = inferred(tmp_path / "run")
    assert (found.networks, found.shipped) == (24, False)
    assert why in found.misfit
    assert why in basis(found)
    assert found.properties == plain.properties


def test_a_library_on_other_energies_is_not_used(program, tmp_path):
    grid = EnergyGrid(0.0, 20.0, 0.5)
    few = Library(grid, np.ones((20, 41)), np.arange(20.0), np.zeros((20, 3)), tuple("abcdefghijklmnopqrst"))
    write_library(program / weights.LIBRARY_FILE, few)
    assert "other energies" in inferred(tmp_path / "run").misfit


def test_summary_and_report_have_it(tmp_path):
    seeds = [replace(SEEDS[0], energy_per_atom_ev=-51.0), *SEEDS[1:]]
    guided = [replace(one, energy_per_atom_ev=-49.8) for one in BENT]
    database = make(tmp_path, replace(SETUP, seeds=seeds, guided=guided))
    summary = summarise(database, "demo")
    text = render(read_report(database, "demo"))
    assert summarise(database, "demo", inferring=False).inferred.properties == {}
    database.dispose()
    record = json.loads(json.dumps(summary.to_json(), allow_nan=False))["inferred"]
    interval = summary.inferred.properties["density_g_cm3"]
    assert record["properties"]["density_g_cm3"] == {
        "median": interval.median,
        "low": interval.low,
        "high": interval.high,
    }
    assert {"density_g_cm3", "cn4_fraction"} <= set(record["best_outside"])
    assert "The best structures disagree with what the spectrum alone says: density 3.3" in text
    assert f"<td>{interval.low:.2f} … {interval.high:.2f}</td>" in text
    assert f"<b>{interval.low:.2f}–{interval.high:.2f}</b>" in text
    # The lowest of all is a starting structure of 1.6 g/cm³; those of the density of the best have -50 eV/atom.
    assert text.count("<td>+1.200</td><td>+0.200</td>") == 10
    assert text.count("<td>outside</td>") == len(record["best_outside"])

"""Experiment meets theory."""

import numpy as np
import pytest
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.spectra.align import _Search, align, edge_onset
from nearedge_services.spectra.distance import spectral_distance
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.labelled import label_cell_means
from nearedge_services.spectra.reading import read_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.extxyz import read_structures

GRID = EnergyGrid()


def carbon_like(energies: np.ndarray, pi_weight: float) -> np.ndarray:
    pi_star = pi_weight * np.exp(-0.5 * ((energies - 2) / 0.8) ** 2)
    return pi_star + (1 - 0.5 * pi_weight) / (1 + np.exp(-(energies - 8) / 0.7)) * np.exp(-energies / 60)


THEORY = [carbon_like(GRID.energies, weight) for weight in (0.2, 0.4, 0.6, 0.8, 1.0)]


def experiment(shift: float, scale: float, background: float = 0.0, noise: float = 0.0) -> Spectrum:
    energies = np.arange(270.0, 325.0, 0.2)
    intensity = scale * carbon_like(energies - shift, 0.6) + background
    return Spectrum(energies, intensity + np.random.default_rng(3).normal(0, noise, energies.size))


@pytest.mark.parametrize("shift", [283.0, 284.37, 286.1])
def test_a_known_shift_and_scale_are_recovered(shift):
    observed = experiment(shift, scale=2.5, background=0.3, noise=0.01)
    alignment, aligned = align(observed, THEORY, GRID, pre_edge=(270, 276), neighbours=1)
    assert alignment.shift_ev == pytest.approx(shift, abs=0.03)
    area = GRID.weights @ carbon_like(GRID.energies, 0.6)
    assert 1 / alignment.scale == pytest.approx(2.5 * area, rel=0.01)
    assert alignment.residual < 0.05 * alignment.theory_spread
    assert aligned.area(*alignment.window_ev) == pytest.approx(1.0, rel=1e-3)


def test_three_neighbours_find_the_shift_too():
    alignment, _ = align(experiment(284.5, 1.0), THEORY, GRID)
    assert alignment.neighbours == 3
    assert alignment.shift_ev == pytest.approx(284.5, abs=0.3)
    low, high = alignment.shift_range_ev
    assert low <= alignment.shift_ev + 0.1
    assert high >= alignment.shift_ev - 0.1


def test_what_was_measured_below_theory_counts_as_missed():
    """Else a shift that moves the first peak out of the window would be rewarded."""
    energies, theory = np.arange(270.0, 325.0, 0.25), np.array(THEORY)
    lost = 0.3 * np.exp(-0.5 * ((energies - 278.0) / 0.5) ** 2)
    explained = Spectrum(energies, carbon_like(energies - 284.5, 0.6))
    more = Spectrum(energies, explained.intensity + lost)
    every = np.ones(GRID.size, dtype=bool)
    clean, missing = (_Search(one, theory, GRID, every, 1) for one in (explained, more))
    assert missing.distances(284.5).min() == pytest.approx(clean.distances(284.5).min(), abs=1e-9)
    expected = np.sqrt(np.sum((lost / missing.area(284.5)) ** 2) / GRID.size)
    assert missing.residual(284.5) == pytest.approx(expected, rel=0.02)
    assert missing.residual(284.5) > 10 * clean.residual(284.5)


def test_the_residual_is_the_distance_of_the_aligned_spectrum():
    alignment, aligned = align(experiment(284.5, 3.0, noise=0.02), THEORY, GRID)
    on_grid = aligned.on(GRID.energies).intensity
    distances = np.sort([spectral_distance(on_grid, row, GRID) for row in THEORY])
    assert alignment.nearest_distance == pytest.approx(distances[0], rel=1e-6)
    assert alignment.residual == pytest.approx(distances[:3].mean(), rel=1e-6)


def test_a_spectrum_unlike_any_theory_says_so():
    energies = np.arange(270.0, 325.0, 0.2)
    odd = Spectrum(energies, np.exp(-0.5 * ((energies - 300) / 1.0) ** 2))
    alignment, _ = align(odd, THEORY, GRID, guess_ev=290, max_shift_ev=12)
    assert alignment.residual / alignment.theory_spread > 3


def test_a_search_that_ends_at_its_edge_is_refused():
    with pytest.raises(UserError, match="still improving"):
        align(experiment(284.5, 1.0), THEORY, GRID, guess_ev=279.0, max_shift_ev=2.0, window_ev=(-2, 20))


def test_a_short_experiment_is_refused():
    with pytest.raises(UserError, match="too short"):
        align(experiment(284.5, 1.0).cut(284, 291), THEORY, GRID)


def test_theory_must_be_on_the_grid():
    with pytest.raises(ValueError, match="two spectra or more"):
        align(experiment(284.5, 1.0), [row[:50] for row in THEORY], GRID)


def test_edge_onset_is_interpolated():
    assert edge_onset(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0])) == pytest.approx(1.2)


def test_reference_experiment_against_reference_theory():
    observed = read_spectrum(reference_path("dlc_experiment/CK_DLC_experimental_NEXAFS.csv"))
    grid, theory = label_cell_means(read_structures(reference_path("ac_nep_dev_gpaw.extxyz")), "C")
    alignment, aligned = align(observed, theory, grid, pre_edge=(271, 280), window_ev=(-2, 15))
    assert 282 < alignment.shift_ev < 286  # the π* at 285.1 eV lies 1–2 eV above the Fermi level
    assert alignment.residual < 2 * alignment.theory_spread
    target = Target.from_spectrum(aligned, grid, "C", alignment.window_ev, alignment)
    assert target.distance(theory).min() == pytest.approx(alignment.nearest_distance, rel=1e-6)
    assert any("background" in step for step in target.history)

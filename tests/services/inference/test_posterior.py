from dataclasses import replace

import numpy as np
import pytest

from nearedge_db.errors import UserError
from nearedge_services.inference.library import Library
from nearedge_services.inference.posterior import (
    InferenceSettings,
    Interval,
    SpectrumInference,
    leave_one_out,
    recovery,
)
from nearedge_services.inference.tuning import log_score, tuned
from nearedge_services.spectra.grid import EnergyGrid

GRID = EnergyGrid(0.0, 10.0, 0.25)


def synthetic(count, seed, *, informative=True, groups=None):
    """Spectra that follow density and four-fold share linearly, with noise of its own in each."""
    rng = np.random.default_rng(seed)
    density = rng.uniform(1.5, 3.5, count)
    four = 0.1 + 0.25 * (density - 1.5) + rng.normal(scale=0.05, size=count)
    shares = np.column_stack([np.full(count, 0.05), 0.95 - four, four])
    modes = np.array([np.sin(GRID.energies), np.cos(2 * GRID.energies)])
    signal = np.column_stack([density - 2.5, four - 0.35]) if informative else np.zeros((count, 2))
    noise = rng.normal(scale=[0.1, 0.03], size=(count, 2))
    spectra = 0.1 + 0.01 * (signal + noise) @ modes
    return Library(GRID, spectra, density, shares, tuple(groups or map(str, range(count))))


SETTINGS = InferenceSettings(components=2, degree=1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    inference = SpectrumInference(synthetic(60, 0), SETTINGS)
    truths = synthetic(300, 1)
    posteriors = [inference.posterior(s, k) for k, s in enumerate(truths.spectra)]
    densities = recovery([p.density() for p in posteriors], truths.densities_g_cm3)
    shares = recovery([p.share(4) for p in posteriors], truths.shares[:, 2])
    assert densities.coverage == pytest.approx(0.9, abs=0.06)
    assert shares.coverage == pytest.approx(0.9, abs=0.06)
    # The noise of the density's own mode is 0.1 g/cm³: nobody can do much better, nor should we do much worse.
    assert 0.07 < densities.rmse < 0.12
    assert shares.rmse < 0.035


def test_small_libraries_make_wider_intervals():
    truth = synthetic(40, 2).spectra
    widths = []
    for count in (9, 200):
        inference = SpectrumInference(synthetic(count, 3), SETTINGS)
        intervals = [inference.posterior(s).share(4) for s in truth]
        widths.append(np.mean([i.high - i.low for i in intervals]))
    assert widths[0] > 1.2 * widths[1]


def test_a_spectrum_that_says_nothing_leaves_the_prior():
    library = synthetic(200, 4, informative=False)
    posterior = SpectrumInference(library, SETTINGS).posterior(library.spectra.mean(axis=0))
    interval = posterior.density()
    low, high = library.densities_g_cm3.min(), library.densities_g_cm3.max()
    assert interval.high - interval.low > 0.75 * 0.9 * (high - low)


def test_a_foreign_spectrum_is_called_foreign():
    library = synthetic(60, 5)
    inference = SpectrumInference(library, SETTINGS)
    foreign = library.spectra[0] + 0.05 * np.sin(GRID.energies) - 0.05 * np.cos(2 * GRID.energies)
    assert inference.posterior(foreign).typicality < 1e-6
    own = [inference.posterior(s).typicality for s in synthetic(100, 6).spectra]
    assert np.mean(np.array(own) < 0.01) < 0.05


def test_probability_and_quantiles_are_those_of_the_posterior():
    posterior = SpectrumInference(synthetic(60, 7), SETTINGS).posterior(synthetic(1, 8).spectra[0])
    assert posterior.probability.sum() == pytest.approx(1)
    interval = posterior.density(0.5)
    inside = (posterior.densities_g_cm3 >= interval.low) & (posterior.densities_g_cm3 <= interval.high)
    assert posterior.probability[inside].sum() == pytest.approx(0.5, abs=0.05)


def test_a_temper_below_one_widens_the_density():
    library, spectrum = synthetic(60, 9), synthetic(1, 10).spectra[0]
    widths = []
    for temper in (1.0, 0.25):
        settings = SETTINGS.model_copy(update={"temper": temper})
        interval = SpectrumInference(library, settings).posterior(spectrum).density()
        widths.append(interval.high - interval.low)
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.35)


def test_leaving_one_out_leaves_its_whole_group_out():
    twins = [str(k // 2) for k in range(40)]
    library = synthetic(40, 11, groups=twins)
    library.spectra[1::2] = library.spectra[::2]
    library.densities_g_cm3[1::2] = library.densities_g_cm3[::2]
    alone = leave_one_out(library, SETTINGS)
    by_hand = SpectrumInference(library.subset(range(2, 40)), SETTINGS).posterior(library.spectra[0])
    assert np.allclose(alone[0].probability, by_hand.probability)


def test_a_library_that_is_too_small_is_refused():
    with pytest.raises(UserError, match="too small"):
        SpectrumInference(synthetic(6, 12), SETTINGS)


def test_a_library_of_one_density_or_one_spectrum_is_refused():
    library = synthetic(40, 12)
    for same in (
        replace(library, densities_g_cm3=np.full(40, 2.5)),
        replace(library, spectra=np.tile(library.spectra[0], (40, 1))),
    ):
        with pytest.raises(UserError, match="too much alike"):
            SpectrumInference(same, SETTINGS)


def test_a_windowed_library_answers_as_one_measured_in_the_window():
    """What is outside the window, and the scale of every spectrum, have no part in the answer."""
    library, spectrum = synthetic(60, 14), synthetic(1, 15).spectra[0]
    mask = (GRID.energies >= 1) & (GRID.energies <= 8)
    rng = np.random.default_rng(0)
    other = np.where(mask, library.spectra * rng.uniform(0.5, 2, (60, 1)), rng.random(library.spectra.shape))
    target = spectrum[mask] / np.trapezoid(spectrum[mask], GRID.energies[mask])
    windowed, cut = (
        SpectrumInference(one.in_window(mask), SETTINGS).posterior(target)
        for one in (library, replace(library, spectra=other))
    )
    assert windowed.density().median == pytest.approx(cut.density().median)
    assert windowed.probability == pytest.approx(cut.probability)
    assert windowed.typicality == pytest.approx(cut.typicality)


def test_recovery_counts():
    found = recovery([Interval(1.0, 0.8, 1.2), Interval(2.0, 1.9, 2.1)], [1.1, 2.4])
    assert (found.coverage, found.largest) == (0.5, pytest.approx(0.4))
    assert found.mean_width == pytest.approx(0.3)


def test_tuning_takes_the_settings_that_foretell_best():
    library = synthetic(40, 13)
    best = tuned(library, SETTINGS, components=(1, 2, 3), degrees=(1, 2), tempers=(1.0, 0.3))
    assert best.components >= 2  # one component mixes density and bonding
    assert best.temper == 1.0
    with pytest.raises(UserError, match="too much alike"):
        tuned(replace(library, densities_g_cm3=np.full(40, 2.5)))
    worse = SETTINGS.model_copy(update={"temper": 0.05})
    assert log_score(library, best) > log_score(library, worse)

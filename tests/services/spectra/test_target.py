"""The campaign's target."""

import io

import numpy as np
import pytest

from nearedge_db.errors import UserError
from nearedge_services.spectra.align import Alignment
from nearedge_services.spectra.distance import spectral_distance
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

GRID = EnergyGrid()


def spectrum(low: float = -5.0, high: float = 40.0) -> Spectrum:
    energies = np.arange(low, high, 0.1)
    return Spectrum(energies, 1 / (1 + np.exp(-(energies - 3))) + np.exp(-((energies - 6) ** 2)))


def test_has_area_one_in_its_window_and_nothing_outside():
    target = Target.from_spectrum(spectrum(), GRID, "C", window_ev=(0, 15))
    assert target.window_ev == (0, 15)
    assert target.weights @ target.intensity == pytest.approx(1.0)
    assert np.all(target.intensity[~target.mask] == 0)
    assert target.mask.sum() == 61


def test_window_defaults_to_what_both_cover():
    target = Target.from_spectrum(spectrum(1.03, 20.07), GRID, "C")
    assert target.window_ev == (1.25, 20.0)


def test_distance_is_the_spectral_distance_over_the_window():
    target = Target.from_spectrum(spectrum(), GRID, "C", window_ev=(0, 15))
    others = np.random.default_rng(0).uniform(0.1, 1, (4, 3, GRID.size))
    expected = spectral_distance(others, spectrum().on(GRID.energies).intensity, GRID, (0, 15))
    assert target.distance(others).shape == (4, 3)
    np.testing.assert_allclose(target.distance(others), expected, rtol=1e-10)
    assert target.distance(7 * target.intensity) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="positive area"):
        target.distance(np.zeros(GRID.size))


def test_an_absolute_energy_axis_is_refused_with_the_fix():
    with pytest.raises(UserError, match=r"no overlap with the oracle's window.*270 to.*set target\.align"):
        Target.from_spectrum(spectrum().shifted(275), GRID, "C")


@pytest.mark.parametrize("window", [(-5, 10), (10, 35), (3, 5)])
def test_a_window_outside_either_or_too_narrow_is_refused(window):
    with pytest.raises(UserError, match="does not fit"):
        Target.from_spectrum(spectrum(), GRID, "C", window_ev=window)


def test_arrays_bring_it_back_without_pickle():
    alignment = Alignment(283.8, 0.15, 0.006, 0.005, 0.01, (283.4, 284.1), (-2.0, 28.0), 3)
    target = Target.from_spectrum(spectrum(), GRID, "C", (0, 15), alignment)
    buffer = io.BytesIO()
    np.savez(buffer, **target.to_arrays())
    buffer.seek(0)
    back = Target.from_arrays(dict(np.load(buffer, allow_pickle=False)))
    np.testing.assert_array_equal(back.intensity, target.intensity)
    np.testing.assert_array_equal(back.mask, target.mask)
    for name in ("grid", "absorber", "window_ev", "alignment", "history"):
        assert getattr(back, name) == getattr(target, name)

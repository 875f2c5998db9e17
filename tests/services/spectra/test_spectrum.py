"""The spectrum as a physical quantity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearedge_db.errors import UserError
from nearedge_services.spectra.spectrum import Spectrum


def peak(centre: float = 10.0, sigma: float = 1.0, points: int = 401) -> Spectrum:
    energies = np.linspace(-10, 30, points)
    return Spectrum(energies, np.exp(-0.5 * ((energies - centre) / sigma) ** 2))


@pytest.mark.parametrize(
    ("energies", "intensity", "message"),
    [
        ([1, 2, 3], [1, 2], "one length"),
        ([[1, 2]], [[1, 2]], "one length"),
        ([1], [1], "two points"),
        ([1, 2, np.nan], [1, 2, 3], "energy of point 3"),
        ([1, 2, 3], [1, np.inf, 3], "intensity of point 2"),
        ([1, 3, 2], [1, 2, 3], "descend at point 3"),
        ([1, 2, 2], [1, 2, 3], "repeat at point 3"),
    ],
)
def test_refuses_what_is_not_a_spectrum(energies, intensity, message):
    with pytest.raises(UserError, match=message):
        Spectrum(np.array(energies, float), np.array(intensity, float))


def test_is_immutable_and_keeps_its_own_copy():
    energies, intensity = np.arange(5.0), np.ones(5)
    spectrum = Spectrum(energies, intensity)
    intensity[0] = 7
    assert spectrum.intensity[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        spectrum.intensity[0] = 2


def test_area_of_a_gaussian_and_of_a_part():
    assert peak(sigma=1.0).area() == pytest.approx(np.sqrt(2 * np.pi), rel=1e-6)
    assert peak(centre=10.0).area(-10, 10) == pytest.approx(np.sqrt(2 * np.pi) / 2, rel=1e-6)
    line = Spectrum(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    assert line.area(0.5, 1.5) == pytest.approx(1.0)  # ends between points are interpolated


def test_normalised_over_a_range_has_area_one_there():
    assert peak().normalised(5, 12).area(5, 12) == pytest.approx(1.0)


def test_normalising_nothing_is_refused():
    with pytest.raises(UserError, match="not positive"):
        Spectrum(np.arange(5.0), np.zeros(5)).normalised()


def test_broadening_adds_variances_and_keeps_area():
    wide = peak(sigma=1.0).broadened(2.0)
    assert wide.area() == pytest.approx(peak().area(), rel=1e-4)
    expected = np.exp(-0.5 * ((wide.energies_ev - 10) ** 2) / 5) / np.sqrt(5)
    np.testing.assert_allclose(wide.intensity, expected, atol=5e-4)  # linear between points 0.1 eV apart


def test_broadening_holds_on_unequal_steps():
    energies = np.sort(np.concatenate([np.linspace(-10, 30, 160), np.linspace(8, 12, 200)]))
    energies = np.unique(energies)
    spectrum = Spectrum(energies, np.full_like(energies, 3.0)).broadened(0.7)
    np.testing.assert_allclose(spectrum.intensity, 3.0)


@pytest.mark.parametrize("order", [0, 1])
def test_background_is_removed(order):
    signal = peak(centre=20.0)
    background = 0.4 + 0.01 * order * signal.energies_ev
    dirty = Spectrum(signal.energies_ev, signal.intensity + background)
    clean = dirty.without_background((-10, 5), order=order)
    np.testing.assert_allclose(clean.intensity, signal.intensity, atol=1e-9)


def test_background_needs_points():
    with pytest.raises(UserError, match="too few points"):
        peak().without_background((100, 110))


def test_on_refuses_to_extrapolate():
    with pytest.raises(UserError, match="does not cover"):
        peak().on(np.linspace(0, 31, 10))


def test_cut_and_empty_cut():
    assert peak().cut(0, 5).range_ev == (pytest.approx(0), pytest.approx(5))
    with pytest.raises(UserError, match="leaves no spectrum"):
        peak().cut(50, 60)


def test_history_tells_everything_in_order():
    done = peak().shifted(285).scaled(2).cut(280, 310).normalised().broadened(0.5)
    words = ["shifted by +285", "scaled by 2", "cut to 280", "area-normalised", "broadened"]
    assert len(done.history) == len(words)
    assert all(word in step for word, step in zip(words, done.history, strict=True))


@given(st.floats(-500, 500), st.floats(0.01, 100))
def test_shift_and_scale_are_undone(shift, factor):
    there_and_back = peak().shifted(shift).scaled(factor).scaled(1 / factor).shifted(-shift)
    np.testing.assert_allclose(there_and_back.intensity, peak().intensity, rtol=1e-12)
    np.testing.assert_allclose(there_and_back.energies_ev, peak().energies_ev, atol=1e-9)

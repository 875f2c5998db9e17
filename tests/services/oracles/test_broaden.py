"""Curves on an oracle's energy axis: unit area, and no silent extrapolation."""

import numpy as np
import pytest

from nearedge_services.oracles.broaden import broadened_on
from nearedge_services.oracles.errors import OracleCrash, UnfitSettings
from nearedge_services.spectra.grid import EnergyGrid

GRID = EnergyGrid(-2.0, 10.0, 0.25)


def test_a_peak_keeps_its_place_and_has_unit_area():
    energies = np.linspace(-20, 30, 2001)
    curve = broadened_on(GRID, energies, np.exp(-0.5 * ((energies - 4) / 0.1) ** 2), 0.5)
    assert GRID.energies[curve.argmax()] == 4.0
    assert GRID.weights @ curve == pytest.approx(1.0)


def test_a_curve_that_begins_above_the_window_is_no_flat_spectrum():
    energies = np.linspace(1560, 1600, 100)
    with pytest.raises(UnfitSettings, match="above the window's end"):
        broadened_on(GRID, energies, np.ones(100), 0.5)


@pytest.mark.parametrize(
    ("stop", "values", "said"),
    [
        (5.0, 1.0, "ends at 5.0 eV"),
        (20.0, np.nan, "not finite"),
        (20.0, -1.0, "negative"),
        (20.0, 0.0, "negative"),
    ],
)
def test_what_is_no_spectrum_is_a_crash(stop, values, said):
    with pytest.raises(OracleCrash, match=said):
        broadened_on(GRID, np.linspace(-20, stop, 100), np.full(100, values), 0.5)

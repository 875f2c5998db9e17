"""Cell means and the spectral distance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.spectra.distance import cell_mean, spectral_distance, window_mask
from nearedge_services.spectra.grid import EnergyGrid

GRID = EnergyGrid()


def gaussian(centre: float) -> np.ndarray:
    return np.exp(-0.5 * ((GRID.energies - centre) / 2) ** 2)


def test_distance_is_the_rms_difference_of_normalised_spectra():
    box = np.ones(GRID.size)
    ramp = GRID.energies - GRID.start_ev  # area-normalised: 2x/L², against 1/L: rms difference 1/(L √3)
    expected = 1 / (30 * np.sqrt(3))
    assert spectral_distance(box, ramp, GRID) == pytest.approx(expected, rel=0.01)


@given(st.floats(2, 20), st.floats(2, 20), st.floats(0.01, 100))
def test_distance_is_symmetric_and_blind_to_scale(first, second, factor):
    a, b = gaussian(first), gaussian(second)
    assert spectral_distance(a, b, GRID) == pytest.approx(float(spectral_distance(b, factor * a, GRID)))
    assert spectral_distance(a, factor * a, GRID) == pytest.approx(0.0, abs=1e-12)


def test_only_the_window_counts():
    a, b = gaussian(5), gaussian(5)
    b[GRID.energies > 15] += 1
    assert spectral_distance(a, b, GRID) > 0.01
    assert spectral_distance(a, b, GRID, (-2, 15)) == pytest.approx(0.0, abs=1e-12)
    assert window_mask(GRID, (0, 1)).sum() == 5
    with pytest.raises(UserError, match="fewer than two points"):
        window_mask(GRID, (40, 50))


def test_leading_axes_broadcast():
    batch = np.stack([gaussian(c) for c in (3, 5, 9)])
    assert spectral_distance(batch[:, None], batch[None], GRID).shape == (3, 3)


def test_cell_mean_takes_absorbers_only():
    xanes = np.stack([gaussian(5), gaussian(9), 100 * gaussian(1)])
    mean = cell_mean(xanes, [6, 6, 14], "C", GRID)
    expected = gaussian(5) + gaussian(9)
    np.testing.assert_allclose(mean, expected / (GRID.weights @ expected))
    with pytest.raises(ValueError, match="no O atom"):
        cell_mean(xanes, [6, 6, 14], "O", GRID)
    with pytest.raises(ValueError, match="positive area"):
        cell_mean(0 * xanes, [6, 6, 14], "C", GRID)


def test_graphite_and_diamond_are_far_apart():
    folder = reference_path("llnl_ac") / "xanes"
    grid = EnergyGrid(0, 99, 1)  # bins without an energy axis

    def mean(name: str) -> np.ndarray:
        table = name.endswith(".csv")
        rows = np.loadtxt(folder / name, delimiter="," if table else None, skiprows=1 if table else 0)
        return cell_mean(rows, np.full(len(rows), 6), "C", grid)

    networks = [mean(f"train/d2.5_{number}.txt") for number in (1, 2)]
    thermal = spectral_distance(networks[0], networks[1], grid)
    assert spectral_distance(mean("misc/diamond.csv"), mean("misc/graphite.csv"), grid) > 3 * thermal

import numpy as np
import pytest

from nearedge.bench.oracle_measures import MEASURES, fit, height, height_ratio, measure_rows, measured, onset
from nearedge.bench.oracle_rows import Crystal

ENERGIES = np.arange(-2.0, 28.25, 0.25)


def peaks(*places, sigma=0.6):
    curve = sum(height * np.exp(-0.5 * ((ENERGIES - place) / sigma) ** 2) for place, height in places)
    return curve / curve.sum()


CRYSTAL = Crystal(ENERGIES, peaks((2, 0.5), (8.25, 1.0)), peaks((6, 1.0)))
FLAT = Crystal(ENERGIES, np.full(ENERGIES.size, 1 / ENERGIES.size), CRYSTAL.diamond)


def mixture(share):
    return share * CRYSTAL.graphite + (1 - share) * CRYSTAL.diamond


@pytest.mark.parametrize("free", [False, True])
def test_a_mixture_is_fitted_by_its_shares(free):
    found = fit(CRYSTAL, 5 * mixture(0.3), sum_to_one=not free)
    assert found == pytest.approx((0.3, 0.7, 0.0), abs=1e-4)


def test_weights_may_leave_the_range_and_the_misfit_says_when_neither_crystal_is_like_it():
    assert fit(CRYSTAL, mixture(1.2)).graphite == pytest.approx(1.2, abs=1e-4)
    assert fit(CRYSTAL, mixture(-0.1)).graphite == pytest.approx(-0.1, abs=1e-4)
    assert fit(CRYSTAL, peaks((4, 1.0), (10, 1.0))).misfit > 0.5


def test_a_broader_peak_of_the_same_area_is_lower_and_one_beyond_the_windows_does_not_count():
    broad = np.convolve(CRYSTAL.graphite, np.ones(7) / 7, mode="same")
    assert height(CRYSTAL, broad) < 0.9
    assert height(CRYSTAL, CRYSTAL.graphite) == pytest.approx(1.0)
    beyond = peaks((2, 0.5), (8.25, 1.0), (25, 9.0))
    assert height(CRYSTAL, beyond) == pytest.approx(1.0, abs=0.01)


def test_a_peak_beside_graphites_counts_in_the_wide_window_only():
    beside = peaks((3.5, 0.5), (8.25, 1.0))
    assert measured("height of π*", CRYSTAL, beside) == pytest.approx(1.0, abs=0.02)
    assert measured("height of π* within 1 eV", CRYSTAL, beside) < 0.8


def test_heights_over_each_other_do_not_ask_for_the_area():
    assert height_ratio(CRYSTAL, peaks((2, 0.25), (8.25, 1.0), (12, 1.0))) == pytest.approx(0.5, abs=0.01)


def test_the_onset_is_where_half_of_the_maximum_is_reached():
    assert onset(CRYSTAL, CRYSTAL.diamond) == pytest.approx(4 - 0.6 * np.sqrt(2 * np.log(2)), abs=0.25)


def test_networks_are_counted_by_each_measure_and_those_outside_are_named():
    shares = [0.2, 0.6, 0.9]
    inside = [mixture(share) for share in shares]
    rows, data = measure_rows("toy", CRYSTAL, inside, shares)
    counts = {row.what: row.measured for row in rows if "between by" in row.what}
    assert len(counts) == len(MEASURES)
    for title in ("weight of graphite in a fit", "height of π*", "π*/σ* height"):
        assert counts[f"toy: between by {title}, of 3"] == 3
        assert data[title]["networks"] == sorted(data[title]["networks"])
    assert data["weight of graphite in a fit"]["networks"] == pytest.approx(shares, abs=1e-4)
    assert data["fits"]["free"][0] == pytest.approx([0.2, 0.8, 0.0], abs=1e-4)
    flat, misfit = rows[-2:]
    assert 0 < flat.measured < 1
    assert misfit.measured < 1e-9 < misfit.baseline
    rows, _ = measure_rows("toy", CRYSTAL, [*inside[:2], mixture(1.1)], shares)
    assert rows[0].measured == 2
    assert rows[0].what.endswith("of 3; outside: those with 90 % of sp² + sp")


def test_without_a_peak_of_graphite_nothing_is_between():
    rows, _ = measure_rows("toy", FLAT, [CRYSTAL.graphite, CRYSTAL.diamond], [1.0, 0.0])
    assert {row.measured for row in rows if "between by" in row.what} == {0}
    assert all(np.isnan(row.measured) for row in rows if "between by" not in row.what)

import numpy as np
import pytest

from nearedge.bench.oracle_rows import (
    Crystal,
    absent_rows,
    common,
    crystal_rows,
    foot_of,
    network_rows,
    ranking_rows,
    series_rows,
    shown,
    sigma_of,
)

ENERGIES = np.arange(-2.0, 28.25, 0.25)
HALF = 0.6 * np.sqrt(2 * np.log(2))


def peaks(*places):
    curve = sum(height * np.exp(-0.5 * ((ENERGIES - place) / 0.6) ** 2) for place, height in places)
    return curve / curve.sum()


def crystal(below=0.0, pi=2.0, filled=0.0):
    between = [(place, filled) for place in range(3, 8)]
    return Crystal(ENERGIES, peaks((pi, 0.5), *between, (8.25, 1.0)), peaks((6, 1.0), (2, below)))


def mixture(share):
    """Of graphite's and diamond's peaks."""
    return peaks((2, 0.5 * share), (6, 1 - share), (8.25, share))


def test_positions_are_those_of_the_peaks_after_one_alignment():
    sigma, edge, valley, at_pi = crystal_rows("toy", crystal())
    assert sigma.measured == pytest.approx(285.4 + 6.25)
    assert edge.measured == pytest.approx(285.4 + 4 - HALF, abs=0.25)
    assert valley.measured < 1
    assert at_pi.measured < 1
    assert valley.passed
    assert at_pi.passed


def test_sigma_is_neither_the_state_between_the_layers_nor_what_lies_above():
    y = peaks((2, 0.5), (7, 0.4), (9, 0.8), (13.5, 1.0), (20, 3.0))
    assert sigma_of(ENERGIES, y) == pytest.approx(9.0)
    assert np.isnan(sigma_of(ENERGIES, peaks((2, 1.0))))


def test_an_oracle_that_knows_photon_energies_shows_them():
    first = crystal_rows("toy", crystal(), photon_zero_ev=284.0)[0]
    assert first.measured == pytest.approx(286.0)
    assert first.baseline == 285.4


def test_a_diamond_that_absorbs_like_graphite_fails():
    at_pi = crystal_rows("toy", crystal(below=0.4))[-1]
    assert at_pi.measured > 50
    assert not at_pi.passed


def test_a_graphite_whose_peaks_run_together_fails():
    assert not crystal_rows("toy", crystal(filled=0.4))[2].passed


def test_a_graphite_without_any_maximum_fails():
    flat = Crystal(ENERGIES, np.full(ENERGIES.size, 1 / ENERGIES.size), peaks((6, 1.0)))
    assert not crystal_rows("toy", flat)[2].passed


def test_networks_between_the_crystals_are_counted_and_ordered():
    shares = [0.1, 0.3, 0.5, 0.9]
    rows, data = network_rows("toy", crystal(), [mixture(share) for share in shares], shares)
    ends, between, up_to, order = rows
    assert ends.measured < 0.05
    assert between.measured == 4
    assert up_to.measured == 0.9
    assert order.measured == pytest.approx(1.0)
    assert data["pi_over_sigma"] == sorted(data["pi_over_sigma"])
    toy = crystal()
    assert toy.sp2_by_area(ENERGIES, toy.graphite) == pytest.approx(1.0)
    assert toy.sp2_by_area(ENERGIES, 7 * mixture(0.5)) == pytest.approx(
        toy.sp2_by_area(ENERGIES, mixture(0.5))
    )
    rows, _ = network_rows("toy", crystal(), [mixture(share) for share in shares], shares[::-1])
    assert not rows[-1].passed
    rows, _ = network_rows("toy", crystal(), [peaks((2, 1.0)), *map(mixture, shares)], [0.0, *shares])
    assert rows[1].measured == 4
    assert rows[2].measured is None


def test_networks_are_all_between_only_up_to_the_first_that_is_not():
    networks = [mixture(0.2), mixture(0.5), peaks((2, 1.0)), mixture(0.9)]
    rows, _ = network_rows("toy", crystal(), networks, [0.2, 0.5, 0.7, 0.9])
    assert (rows[1].measured, rows[2].measured) == (3, 0.5)


def test_ranking_is_one_for_the_same_and_not_for_noise():
    spectra = [mixture(0.1 * k) for k in range(1, 8)]
    shares = [0.1 * k for k in range(1, 8)]
    rows, _ = ranking_rows("toy", spectra, spectra, (shares, shares))
    assert [row.measured for row in rows] == pytest.approx([1.0, 1.0])
    noise = list(np.random.default_rng(0).random((len(spectra), ENERGIES.size)))
    rows, _ = ranking_rows("toy", noise, spectra, (shares[::-1], shares))
    assert not any(row.passed for row in rows)


def test_a_series_is_judged_by_its_last_value():
    spectra = [crystal(pi=1.0).graphite, crystal(pi=2.0).graphite, crystal(pi=2.0).graphite]
    rows = series_rows("toy", [1, 2, (3, 3, 1)], [ENERGIES] * 3, spectra, "graphite")
    assert [row.what.split(" against ")[0] for row in rows] == ["toy 1", "toy 1", "toy 2", "toy 2"]
    far, apart, near, _ = rows
    assert far.measured > 5
    assert (apart.measured, apart.baseline) == pytest.approx((7.25, 6.25))
    assert near.measured == pytest.approx(0.0, abs=1e-9)


def test_area_that_differs_is_all_of_it_where_nothing_overlaps():
    row, _ = series_rows("toy", [1, 2], [ENERGIES] * 2, [peaks((2, 1.0)), peaks((20, 1.0))], "diamond")
    assert row.measured == pytest.approx(100, abs=0.1)


def test_on_another_axis_the_sum_is_one():
    found = common(ENERGIES, peaks((2, 1.0), (25, 3.0)), np.arange(-2.0, 15.1, 0.5))
    assert found.sum() == pytest.approx(1.0)
    assert found.argmax() == 8


def test_what_is_missing_is_shown_and_what_failed_does_not_pass():
    missing, failed = absent_rows({"feff": "not installed"}, {"gpaw, graphite": "NotConverged: no"})
    assert (missing.passed, failed.passed) == (None, False)
    assert "not installed" in missing.what
    assert "NotConverged" in failed.what


def test_values_in_a_table():
    assert [shown(value) for value in ((3, 3, 1), None, 4.5, "full")] == ["3×3×1", "default", "4.5", "full"]


def test_what_diamond_has_in_its_gap_is_seen():
    assert foot_of(ENERGIES, peaks((8, 1.0))) < 0.01
    assert foot_of(ENERGIES, peaks((8, 1.0)) + 0.1 * peaks((8, 1.0)).max()) == pytest.approx(
        0.1 / 1.1, abs=0.01
    )

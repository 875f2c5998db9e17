"""Intervals cover what they claim, and the expected distance is unbiased."""

import numpy as np
import pytest

from nearedge_services.surrogate.calibration import (
    IntervalScale,
    distance_spread,
    expected_distance,
    fit_excess,
    smoothed,
)


def heteroscedastic(seed: int, size: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Errors whose true standard deviation is sqrt((3 s)² + 0.2²) for the spread s."""
    rng = np.random.default_rng(seed)
    spread = rng.exponential(0.3, size)
    return rng.normal(0, np.hypot(3 * spread, 0.2)), spread


def test_covers_fresh_heteroscedastic_errors():
    scale = IntervalScale.fit(*heteroscedastic(0))
    errors, spread = heteroscedastic(1)
    assert np.mean(scale.covers(errors, spread)) == pytest.approx(0.9, abs=0.02)
    # not only on average: also where the members agree and where they do not
    for part in (spread < 0.1, spread > 0.5):
        assert np.mean(scale.covers(errors[part], spread[part])) == pytest.approx(0.9, abs=0.06)
    assert scale.factor == pytest.approx(3, rel=0.3)


def test_useless_spread_leaves_the_floor():
    rng = np.random.default_rng(0)
    scale = IntervalScale.fit(rng.normal(0, 2.0, 3000), rng.uniform(0, 1, 3000))
    assert scale.std(0.0) == pytest.approx(2.0, rel=0.15)
    assert scale.std(1.0) == pytest.approx(2.0, rel=0.15)


def test_a_few_structures_do_not_make_all_equally_uncertain():
    """Twelve, of forty errors each that have nothing to do with the spread; as 480 structures they would tell so."""
    rng = np.random.default_rng(0)
    errors, spread = rng.normal(0, 2.0, (12, 40)), rng.uniform(0, 1, (12, 40))
    few, many = IntervalScale.fit(errors, spread, 12), IntervalScale.fit(errors, spread)
    assert few.std(1.0) > 1.3 * few.std(0.0)
    assert many.std(1.0) / many.std(0.0) < few.std(1.0) / few.std(0.0)
    for scale in (few, many):
        assert np.mean(scale.covers(errors, spread)) == pytest.approx(0.9, abs=0.01)


def test_scale_follows_the_unit():
    errors, spread = heteroscedastic(0)
    one, thousand = IntervalScale.fit(errors, spread), IntervalScale.fit(1000 * errors, 1000 * spread)
    assert thousand.factor == pytest.approx(one.factor)
    assert thousand.floor == pytest.approx(1000 * one.floor)


def test_members_that_agree_exactly_do_not_break_it():
    errors = np.random.default_rng(0).normal(0, 1.0, 500)
    assert np.mean(IntervalScale.fit(errors, np.zeros(500)).covers(errors, np.zeros(500))) == pytest.approx(
        0.9, abs=0.01
    )


@pytest.mark.parametrize("errors", [[], [np.nan]])
def test_nothing_to_fit_is_refused(errors):
    with pytest.raises(ValueError, match="finite"):
        IntervalScale.fit(errors, errors)


def test_expected_distance_of_independent_errors_needs_the_whole_variance():
    rng = np.random.default_rng(0)
    remaining = rng.uniform(0, 0.03, (300, 1)) * rng.normal(size=(300, 120))
    error = rng.normal(0, 0.01, (300, 120))
    of_mean = np.sqrt(np.mean(remaining**2, axis=1))
    true = np.sqrt(np.mean((remaining + error) ** 2, axis=1))
    variance = np.full(300, 0.01**2)
    assert fit_excess(of_mean, variance, true) == pytest.approx(1.0)
    assert np.mean(expected_distance(of_mean, variance, 1.0) - true) == pytest.approx(0, abs=1e-4)
    assert fit_excess(of_mean, variance, of_mean) == 0.0


def test_intervals_follow_structures_that_three_members_know_less():
    """Errors grow fivefold from one structure to another: covered in both, though calibrated on the first."""

    def cases(size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        common = rng.normal(0, 2.0 * size, (40, 100))
        members = rng.normal(0, 1.0 * size, (40, 3, 100))
        return common + members.mean(1), members.std(1, ddof=1)

    errors, spread = (np.concatenate(part) for part in zip(cases(1.0, 0), cases(0.5, 1), strict=True))
    others, theirs = cases(5.0, 2)
    smooth = IntervalScale.fit(errors, smoothed(spread))
    assert np.mean(smooth.covers(others, smoothed(theirs))) == pytest.approx(0.9, abs=0.05)
    assert np.mean(IntervalScale.fit(errors, spread).covers(others, theirs)) < 0.85


def test_smoothing_keeps_the_mean_variance():
    spread = np.random.default_rng(0).exponential(1.0, (5, 60))
    assert np.mean(smoothed(spread) ** 2, axis=-1) == pytest.approx(np.mean(spread**2, axis=-1))
    assert np.ptp(smoothed(spread)) < np.ptp(spread)


def test_scatter_of_a_distance_does_not_vanish_by_chance():
    assert distance_spread(0.0, np.full(10, 0.01)) > 1e-3
    assert distance_spread([0.0, 1.0], np.zeros((2, 10))) == pytest.approx([0.0, 0.5**0.5])

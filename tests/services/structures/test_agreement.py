import numpy as np
import pytest
from ase.build import bulk

from nearedge_services.structures.agreement import (
    binomial_interval,
    compare_curves,
    compare_shares,
    coordination_shares,
    radial_curves,
)


def curves(count, seed, shift=0.0, scatter=1.0):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(200)) + shift + scatter * rng.normal(size=(count, 200))


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (40, 2), (2, 30)])
def test_like_ensembles_have_the_ratio_one_whatever_their_sizes(ours, theirs):
    found = compare_curves(curves(ours, 0), curves(theirs, 1))
    assert found.ratio == pytest.approx(1.0, abs=0.1)


def test_a_systematic_difference_is_found_through_the_noise():
    found = compare_curves(curves(40, 2, shift=0.5), curves(40, 3))
    assert found.bias == pytest.approx(0.5, rel=0.1)
    # between² = b² + v + v and within² = 2 v with v = 1
    assert found.ratio == pytest.approx(np.sqrt(2.25 / 2), rel=0.05)


def test_too_few_structures_leave_things_open():
    found = compare_curves(curves(3, 4), curves(1, 5))
    assert (found.within, found.ratio, found.bias) == (None, None, None)
    with pytest.raises(ValueError, match="curves of the shapes"):
        compare_curves(np.empty((0, 5)), np.empty((2, 5)))


def test_shares_of_diamond_and_their_difference():
    diamond = bulk("C", "diamond", 3.567, cubic=True)
    shares = coordination_shares([diamond, diamond])
    assert shares.tolist() == [[0, 0, 1], [0, 0, 1]]
    found = compare_shares(np.array([[0, 0.3, 0.7], [0, 0.5, 0.5]]), shares)
    assert found.points == pytest.approx([0, 40, -40])
    assert found.largest == pytest.approx(40)
    assert found.error == pytest.approx([0, 10, 10])


def test_radial_curves_are_one_for_each_structure():
    diamond = bulk("C", "diamond", 3.567, cubic=True)
    assert radial_curves([diamond, diamond]).shape == (2, 120)


def test_the_binomial_interval_is_the_exact_one():
    low, high = binomial_interval(0, 300)
    assert low == 0
    assert (1 - high) ** 300 == pytest.approx(0.025)
    low, high = binomial_interval(300, 300)
    assert high == 1
    assert low**300 == pytest.approx(0.025)
    low, high = binomial_interval(8, 10)  # tabulated
    assert (low, high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    with pytest.raises(ValueError, match="trials"):
        binomial_interval(3, 2)

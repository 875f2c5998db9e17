"""Acquisition functions against numbers worked out another way."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from nearedge.acquisition import POLICIES, expected_improvement, faded, make_policy, rank
from nearedge_db.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("mean", [0.005, 0.010, 0.013])
@pytest.mark.parametrize("std", [0.0005, 0.002, 0.01])
def test_expected_improvement_is_the_integral(mean, std):
    best = 0.010
    integral, _ = quad(
        lambda value: (best - value) * norm.pdf(value, mean, std), mean - 12 * std, best, points=[mean]
    )
    found = expected_improvement(np.array([mean]), np.array([std]), best, RNG)[0]
    assert found == pytest.approx(max(integral, 0.0), rel=1e-6, abs=1e-12)


def test_expected_improvement_without_uncertainty_is_the_improvement():
    found = expected_improvement(np.array([0.008, 0.012]), np.zeros(2), 0.010, RNG)
    np.testing.assert_allclose(found, [0.002, 0.0], atol=1e-12)


def test_expected_improvement_is_never_negative_and_grows_with_uncertainty():
    spread = np.linspace(1e-4, 0.02, 30)
    found = expected_improvement(np.full(30, 0.02), spread, 0.010, RNG)
    assert (found >= 0).all()
    assert (np.diff(found) >= 0).all()


def test_policies_order_as_they_say():
    mean, std = np.array([0.02, 0.01, 0.03]), np.array([0.001, 0.002, 0.003])
    order = {name: np.argsort(-make_policy(name)(mean, std, 0.015, RNG)).tolist() for name in POLICIES}
    assert order["greedy"] == [1, 0, 2]
    assert order["uncertainty"] == [2, 1, 0]
    assert order["expected_improvement"][0] == 1


def test_random_policy_is_decided_by_the_generator():
    zeros = np.zeros(6)
    draws = [make_policy("random")(zeros, zeros, 0.0, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


def test_an_unknown_policy_names_those_there_are():
    with pytest.raises(UserError, match="expected_improvement"):
        make_policy("luck")


def test_usefulness_fades_linearly_within_the_scale():
    """A near-duplicate is worth little, a new structure all that it was."""
    nearest = np.array([0.0, 0.01, 0.05, 0.1, 9.0])
    np.testing.assert_allclose(faded(np.full(5, 2.0), nearest, 0.1), [0.0, 0.2, 1.0, 2.0, 2.0])


def test_no_duplicate_turns_useful_by_fading_a_negative_number():
    """A predicted worsening (greedy) stays below one that is less bad, however near it is to known structures."""
    assert faded(np.array([-1.0, -0.5]), np.array([0.0, 1.0]), 0.1).tolist() == [-1.0, -0.5]


def test_scale_zero_means_no_fading():
    assert faded(np.array([1.0, 2.0]), np.zeros(2), 0.0).tolist() == [1.0, 2.0]


def test_the_largest_value_comes_first_and_equals_keep_their_order():
    assert rank(np.array([-0.5, 2.0, 1.0])).tolist() == [1, 2, 0]
    assert rank(np.ones(4)).tolist() == [0, 1, 2, 3]
    assert rank(np.zeros(0)).size == 0

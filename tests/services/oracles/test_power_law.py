"""A power law: a known one is found again, few numbers say little, larger sizes never get less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearedge_services.oracles.power_law import Prior, fit

PRIOR = Prior(exponent=2.0, exponent_spread=1.0, most=3.0, spread=0.7)


def numbers(exponent, count, scatter=0.1, seed=0):
    """``count`` sizes, and values that obey 0.01 size^exponent up to a scatter."""
    generator = np.random.default_rng(seed)
    sizes = generator.choice([16, 32, 64, 128], count)
    return sizes, 0.01 * sizes**exponent * np.exp(scatter * generator.standard_normal(count))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.2, 3.0])
def test_a_power_law_is_found_again(exponent):
    law = fit(*numbers(exponent, 200), PRIOR)
    assert law.exponent == pytest.approx(exponent, abs=0.1)
    assert law.exponent_range[0] <= exponent + 0.02
    assert law.exponent_range[1] >= exponent - 0.02
    assert law.middle(256) == pytest.approx(0.01 * 256**exponent, rel=0.2)
    assert law.upper(64) < 3 * law.middle(64)


def test_a_few_that_are_far_off_hardly_move_it():
    sizes, values = numbers(2.0, 100)
    slow = values.copy()
    slow[:10] *= 100
    assert fit(sizes, slow, PRIOR).middle(64) == pytest.approx(fit(sizes, values, PRIOR).middle(64), rel=0.2)


def test_an_exponent_beyond_the_prior_is_cut_off():
    assert fit(*numbers(4.0, 50), PRIOR).exponent == PRIOR.most


@pytest.mark.parametrize("count", [1, 5, 500])
def test_numbers_of_one_size_leave_the_exponent_as_open_as_before(count):
    law = fit([16] * count, [8.0] * count, PRIOR)
    assert law.middle(16) == pytest.approx(8.0)
    assert law.exponent == pytest.approx(PRIOR.exponent)
    assert law.exponent_range == (0.0, PRIOR.most)
    assert law.upper(128) > 8.0 * 8**3
    assert law.upper(2) > 8.0


def test_nothing_positive_gives_no_law():
    assert fit([], [], PRIOR) is None
    assert fit([8, 0], [0.0, 3.0], PRIOR) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(1e-3, 1e5)), min_size=1, max_size=30),
    st.integers(1, 1000),
    st.integers(1, 1000),
)
def test_a_larger_size_never_gets_less(seen, first, second):
    law = fit(*zip(*seen, strict=True), PRIOR)
    small, large = sorted((first, second))
    assert law.middle(small) <= law.middle(large) * (1 + 1e-9)
    assert law.upper(small) <= law.upper(large) * (1 + 1e-9)
    assert law.middle(small) <= law.upper(small)

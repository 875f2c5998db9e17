"""The cost of labels: a known law is found again, few labels say little, larger cells never cost less."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearedge_services.oracles.cost_model import (
    FEWEST_FOR_LIMIT,
    PRIOR_EXPONENT,
    SHORTEST_LIMIT_S,
    learn,
)


def labels(exponent, count, scatter=0.1, seed=0):
    """Sizes and times of ``count`` labels that obey 0.01 s N^exponent up to a scatter."""
    generator = np.random.default_rng(seed)
    atoms = generator.choice([16, 32, 64, 128], count)
    return atoms, 0.01 * atoms**exponent * np.exp(scatter * generator.standard_normal(count))


@pytest.mark.parametrize("exponent", [1.0, 2.2, 3.0])
def test_a_power_law_is_found_again(exponent):
    model = learn(*labels(exponent, 200))
    assert model.exponent == pytest.approx(exponent, abs=0.1)
    assert model.seconds(256) == pytest.approx(0.01 * 256**exponent, rel=0.2)
    assert model.upper_seconds(64) < 3 * model.seconds(64)


def test_labels_on_a_busy_machine_hardly_move_it():
    atoms, seconds = labels(2.0, 100)
    slow = seconds.copy()
    slow[:10] *= 100
    assert learn(atoms, slow).seconds(64) == pytest.approx(learn(atoms, seconds).seconds(64), rel=0.2)


def test_one_label_says_how_long_that_size_takes_and_the_prior_the_rest():
    model = learn([32], [8.0])
    assert model.seconds(32) == pytest.approx(8.0)
    assert model.exponent == pytest.approx(PRIOR_EXPONENT)
    assert model.upper_seconds(32) > 3 * 8.0
    assert model.limit_s(32, 0) is None


def test_without_labels_there_is_no_model():
    assert learn([], []) is None
    assert learn([8], [0.0]) is None


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(1e-3, 1e5)), min_size=1, max_size=30),
    st.integers(1, 1000),
    st.integers(1, 1000),
)
def test_a_larger_cell_never_costs_less(seen, first, second):
    model = learn(*zip(*seen, strict=True))
    small, large = sorted((first, second))
    assert model.seconds(small) <= model.seconds(large) * (1 + 1e-9)
    assert model.seconds(small) <= model.upper_seconds(small)


def test_limits_are_generous_and_longer_after_each_timeout():
    model = learn(*labels(2.0, FEWEST_FOR_LIMIT))
    assert model.limit_s(16, 0) == SHORTEST_LIMIT_S
    large = model.limit_s(4096, 0)
    assert large > 5 * model.seconds(4096)
    assert model.limit_s(4096, 2) == pytest.approx(9 * large)

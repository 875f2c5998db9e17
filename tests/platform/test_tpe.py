"""Suggestions by Parzen estimators, beside Optuna's own."""

from itertools import pairwise

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial
from scipy.integrate import quad

from nearedge import tpe
from nearedge.tpe import Parzen, Suggestions, Trials

LOW, HIGH = -3.0, 5.0
RANGES = {"x": (0.0, 1.0), "y": (LOW, HIGH)}


def trials(points, values):
    """Points, each a mapping, with their values; None of one that runs."""
    columns = {name: np.array([point.get(name, np.nan) for point in points]) for name in RANGES}
    return Trials(np.array([np.nan if value is None else value for value in values]), columns)


def valley(point):
    """A function that is lowest at x = 0.3, y = 2."""
    return abs(point["x"] - 0.3) + abs(point["y"] - 2.0) / 8


def anywhere(count, seed=3):
    """Points from all over the ranges."""
    drawn = np.random.default_rng(seed).uniform(size=(count, 2)) * [1.0, 8.0] - [0.0, 3.0]
    return [{"x": x, "y": y} for x, y in drawn.tolist()]


def tried(points, running=()):
    """Trials at these points, and some that run."""
    return trials([*points, *running], [*map(valley, points), *(None for _ in running)])


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40, 200])
def test_the_density_is_that_of_optunas_estimator(count):
    values = np.random.default_rng(count).uniform(LOW, HIGH, count)
    sampler = TPESampler(multivariate=False)
    theirs = sampler._parzen_estimator_cls(
        {"y": values}, {"y": FloatDistribution(LOW, HIGH)}, sampler._parzen_estimator_parameters
    )
    at = np.linspace(LOW, HIGH, 50)
    assert np.log(Parzen(values, LOW, HIGH).density(at)) == pytest.approx(theirs.log_pdf({"y": at}), abs=1e-9)


def test_samples_follow_the_density():
    estimator = Parzen(np.array([-2.9, 0.0, 0.1, 4.0]), LOW, HIGH)
    drawn = estimator.sample(np.random.default_rng(0), 20_000)
    assert drawn.min() >= LOW
    assert drawn.max() <= HIGH
    shares, edges = np.histogram(drawn, bins=8, range=(LOW, HIGH))
    expected = [
        quad(lambda x: estimator.density(np.array([x]))[0], first, last)[0] for first, last in pairwise(edges)
    ]
    assert sum(expected) == pytest.approx(1.0, abs=1e-6)
    assert shares / 20_000 == pytest.approx(expected, abs=0.01)


def optunas(points, running, seed):
    """What Optuna's own sampler suggests."""
    distributions = {name: FloatDistribution(*ends) for name, ends in RANGES.items()}
    sampler = TPESampler(seed=seed, n_startup_trials=8, constant_liar=True, multivariate=False)
    study = optuna.create_study(sampler=sampler)
    for point in points:
        study.add_trial(create_trial(params=point, distributions=distributions, value=valley(point)))
    for point in running:
        study.add_trial(create_trial(state=TrialState.RUNNING, params=point, distributions=distributions))
    return study.ask(distributions).params


def test_suggestions_lie_where_those_of_optunas_sampler_do():
    """Means over many seeds, of trials of which some run."""
    points, running = anywhere(60), [{"x": 0.3, "y": 2.0}] * 3
    ours = [Suggestions(RANGES, seed).next(tried(points, running)) for seed in range(60)]
    theirs = [optunas(points, running, seed) for seed in range(60)]
    for name, (low, high) in RANGES.items():
        mine, others = (np.array([point[name] for point in found]) for found in (ours, theirs))
        assert mine.mean() == pytest.approx(others.mean(), abs=0.05 * (high - low))
        assert mine.std() == pytest.approx(others.std(), abs=0.05 * (high - low))


def test_suggestions_come_near_the_best():
    points, suggestions = anywhere(10), Suggestions(RANGES, seed=1)
    while len(points) < 120:
        points.append(suggestions.next(tried(points)))
    assert np.mean([abs(point["x"] - 0.3) for point in points[-40:]]) < 0.1
    assert np.mean([abs(point["y"] - 2.0) for point in points[-40:]]) < 0.8


def test_few_values_give_suggestions_from_everywhere():
    known = tried(anywhere(tpe.STARTUP - 1), [{"x": 0.5, "y": 0.0}] * 20)
    suggestions = Suggestions(RANGES, seed=0)
    assert np.ptp([suggestions.next(known)["y"] for _ in range(200)]) > 7.0


def test_a_parameter_that_no_trial_has_is_drawn_from_its_whole_range():
    known, suggestions = trials([{"x": 0.5}] * 20, range(20)), Suggestions(RANGES, seed=0)
    drawn = [suggestions.next(known)["y"] for _ in range(200)]
    assert all(LOW <= y <= HIGH for y in drawn)
    assert np.ptp(drawn) > 6.0


def test_a_range_of_one_value_has_that_value():
    suggestions = Suggestions({**RANGES, "y": (2.0, 2.0)}, seed=0)
    assert {suggestions.next(tried(anywhere(count)))["y"] for count in (2, 20)} == {2.0}


def test_the_same_seed_gives_the_same_suggestion():
    known = tried(anywhere(30))
    assert Suggestions(RANGES, 5).next(known) == Suggestions(RANGES, 5).next(known)

"""What is remembered of the trials: the best, the latest and the running ones."""

import numpy as np
import pytest

from nearedge import recollection
from nearedge.recollection import Recollection


def remembering(values, first=0):
    """Trials with these values, None of one that runs, at x = their number."""
    known = Recollection(["x", "y"])
    for number, value in enumerate(values, first):
        known.add(number, {"x": float(number)}, value)
    return known


def values(known):
    return [None if np.isnan(value) else value for value in known.trials.values]


def test_the_worst_of_the_old_ones_are_forgotten(monkeypatch):
    monkeypatch.setattr(recollection, "MOST", 10)
    monkeypatch.setattr(recollection, "BEST", 2)
    monkeypatch.setattr(recollection, "LATEST", 3)
    known = remembering((5.0, 0.1, 7.0, 0.2, 9.0, 3.0, 4.0, 6.0, 8.0, 2.0))
    assert len(known) == 10
    known.add(10, {"x": 10.0, "y": 0.5}, 1.0)
    assert values(known) == [0.1, 0.2, 6.0, 8.0, 2.0, 1.0]
    assert known.trials.parameters["x"].tolist() == [1.0, 3.0, 7.0, 8.0, 9.0, 10.0]
    assert known.trials.parameters["y"].tolist() == [pytest.approx(np.nan, nan_ok=True)] * 5 + [0.5]


def test_a_running_trial_is_never_forgotten_and_ends_under_its_number(monkeypatch):
    monkeypatch.setattr(recollection, "MOST", 4)
    monkeypatch.setattr(recollection, "BEST", 1)
    monkeypatch.setattr(recollection, "LATEST", 1)
    known = remembering([None], first=70)
    for number in range(12):
        known.add(number, {"x": 0.5}, float(number))
    assert known.open_numbers() == {70}
    known.finish(70, 0.25)
    assert known.open_numbers() == set()
    assert 0.25 in values(known)
    known.finish(70, None)
    assert values(known).count(0.25) == 1


def test_a_trial_that_came_to_nothing_is_forgotten():
    known = remembering([1.0, None, 2.0])
    known.finish(1, None)
    known.finish(7, 0.5)
    assert values(known) == [1.0, 2.0]
    assert known.trials.parameters["x"].tolist() == [0.0, 2.0]
    assert known.open_numbers() == set()


def test_many_running_trials_find_room():
    known = remembering([None] * (2 * recollection.MOST))
    assert len(known) == len(known.open_numbers()) == 2 * recollection.MOST

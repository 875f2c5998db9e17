"""The stopping rule."""

import pytest

from nearedge.config import StopConfig
from nearedge.stopping import Standing, reason_to_stop

STOP = StopConfig(labels=10, baseline_labels=3, tolerance_per_ev=0.01, plateau_labels=5, wall_minutes=30.0)
RUNNING = {
    "guided_labels": 4,
    "baseline_labels": 3,
    "best_distance": 0.02,
    "since_best": 1,
    "minutes": 5.0,
}


def reason(stop: StopConfig = STOP, **changes) -> str | None:
    return reason_to_stop(Standing(**{**RUNNING, **changes}), stop)


def test_a_campaign_on_its_way_goes_on():
    assert reason() is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"guided_labels": 10}, "budget"),
        ({"guided_labels": 12}, "budget"),
        ({"best_distance": 0.01}, "tolerance"),
        ({"since_best": 5}, "plateau"),
        ({"minutes": 30.0}, "wall time"),
    ],
)
def test_each_rule_ends_it(changes, word):
    assert reason(**changes).startswith(word)


@pytest.mark.parametrize("changes", [{"guided_labels": 10}, {"best_distance": 0.0}, {"since_best": 9}])
def test_the_baseline_comes_first(changes):
    """Without the baseline nobody can say what guidance was worth."""
    assert reason(baseline_labels=2, **changes) is None


def test_time_waits_for_nothing():
    assert reason(minutes=31.0, baseline_labels=0, guided_labels=0).startswith("wall time")


def test_a_good_starting_structure_alone_does_not_meet_the_tolerance():
    """The best distance includes starting structures: at least one guided label must be there."""
    assert reason(guided_labels=0, best_distance=0.001) is None


def test_rules_that_are_not_set_do_not_hold():
    plain = StopConfig(labels=10, baseline_labels=3)
    assert reason(plain, best_distance=0.0, since_best=99, minutes=1e6) is None

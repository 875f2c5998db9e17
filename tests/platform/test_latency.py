"""From a label to its first use."""

from datetime import UTC, datetime, timedelta

import pytest

from nearedge.latency import Latency, first_uses

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes):
    return START + timedelta(minutes=minutes)


def test_a_label_is_used_by_the_first_training_submitted_after_it():
    trainings = [(at(10), at(15)), (at(20), at(30))]
    found = first_uses([at(1), at(10), at(11), at(21)], trainings)
    assert found == [at(15), at(15), at(30), None]


def test_a_later_training_that_is_used_earlier_counts():
    """Two trainers: the larger data set was done first."""
    assert first_uses([at(1), at(11)], [(at(10), at(50)), (at(12), at(20))]) == [at(20), at(20)]


def test_without_trainings_nothing_is_used():
    assert first_uses([at(1)], []) == [None]


def test_percentiles_are_of_the_labels_in_use():
    assert Latency.of([], 3) == Latency(None, None, 0, 3)
    found = Latency.of([float(second) for second in range(101)], 120)
    assert (found.used, found.labels) == (101, 120)
    assert (found.p50_s, found.p95_s) == (pytest.approx(50.0), pytest.approx(95.0))

"""The cost of labels: of sizes that were seen, of others, and of oracles with a run for each absorber."""

import pytest

from nearedge_db.attempts import FinishedLabel
from nearedge_services.oracles.cost_model import FEWEST_FOR_LIMIT, SHORTEST_LIMIT_S, learn


def labels(count, *, atoms=16, runs=1, seconds=10.0, gib=1.0):
    """So many labels alike."""
    return [FinishedLabel(atoms, runs, seconds, gib)] * count


def test_one_label_says_what_its_size_costs_and_the_prior_the_rest():
    model = learn(labels(1, atoms=32, seconds=8.0), "xtb")
    assert model.seconds(32) == pytest.approx(8.0)
    assert model.seconds(64) == pytest.approx(32.0)
    assert model.gib(32) == pytest.approx(1.0)
    assert 1.0 < model.gib(64) <= 4.0
    assert model.upper_seconds(32) > 3 * 8.0
    assert model.upper_gib(32) > 1.5
    assert model.limit_s(32, 1, 0) is None


def test_without_labels_there_is_no_model():
    assert learn([], "xtb") is None
    assert learn(labels(1, seconds=0.0), "xtb") is None


def test_memory_is_left_out_where_none_was_measured():
    model = learn(labels(3, gib=None), "xtb")
    assert model.gib(16) is None
    assert model.upper_gib(16) is None


def test_the_limit_of_a_cell_larger_than_all_before_is_not_too_short():
    """However many labels of one size there are, they do not say how the time grows: the worst is allowed for."""
    model = learn(labels(500), "gpaw")
    assert model.limit_s(128, 1, 0) > 5 * 10.0 * (128 / 16) ** 3
    assert model.limit_s(16, 1, 0) == SHORTEST_LIMIT_S


def test_limits_are_longer_after_each_timeout():
    model = learn(labels(FEWEST_FOR_LIMIT, seconds=3600.0), "gpaw")
    first = model.limit_s(16, 1, 0)
    assert first > 5 * 3600
    assert model.limit_s(16, 1, 2) == pytest.approx(9 * first)


def test_a_run_for_each_absorber_counts_by_absorbers():
    seen = labels(20, atoms=32, runs=32, seconds=320.0) + labels(20, atoms=64, runs=64, seconds=640.0)
    model = learn(seen, "feff")
    assert model.run.exponent == pytest.approx(0.0, abs=0.1)
    assert model.seconds(64, 8) == pytest.approx(80.0, rel=0.1)
    assert model.usual_runs(128) == 128
    assert learn(labels(3), "gpaw").usual_runs(128) == 1


def test_clusters_are_as_large_in_a_larger_cell():
    seen = labels(1, runs=16)
    assert learn(seen, "feff").seconds(32, 32) == pytest.approx(20.0)
    assert learn(seen, "espresso").seconds(32, 32) == pytest.approx(80.0)


def test_a_label_of_which_no_run_is_on_record_counts_as_one_run():
    assert learn(labels(5, runs=0), "xtb") == learn(labels(5), "xtb")

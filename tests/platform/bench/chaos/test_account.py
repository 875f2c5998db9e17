"""What is counted as lost, as computed twice, and as done again, and because of what."""

import pytest

from nearedge.bench.chaos.account import Entry, Kill, again, attempts, lost, twice
from nearedge.bench.chaos.journal import Line

DONE = Entry("DONE", 100.0, 1, 1, None)


def line(what, time, pid=1, key="a", note=""):
    return Line(what, key, pid, "birth", float(time), note)


def tried(*lines):
    return attempts(lines)


def test_a_calculation_is_what_its_process_wrote():
    found = tried(
        line("begun", 1), line("begun", 2, pid=2, key="b"), line("ended", 3), line("fault", 4, 2, "b", "hang")
    )
    assert [(one.begun, one.ended, one.failed) for one in found["a"]] == [(1, 3, None)]
    assert [(one.ended, one.failed, one.note) for one in found["b"]] == [(None, 4, "hang")]


def test_a_process_that_begins_again_starts_another_calculation():
    found = tried(line("begun", 1), line("fault", 2, note="wrong shape"), line("begun", 3), line("ended", 4))
    assert [(one.begun, one.failed, one.ended) for one in found["a"]] == [(1, 2, None), (3, None, 4)]


def test_nothing_is_lost_or_twice_where_all_is_well():
    well = tried(line("begun", 1), line("ended", 2))
    assert lost(well, {"a": 7}, {"a": 7}) == []
    assert twice(well, {"a": DONE}) == []
    assert again(well, []) == []


def test_a_label_that_was_in_the_database_and_is_not_is_lost():
    assert lost({}, {"a": 7, "b": 8}, {"a": 7}) == ["b"]


def test_a_label_row_that_was_replaced_is_lost():
    assert lost({}, {"a": 7}, {"a": 9}) == ["a"]


def test_a_label_that_was_computed_and_never_stored_is_lost():
    assert lost(tried(line("begun", 1), line("ended", 2)), {}, {}) == ["a"]


def test_a_calculation_that_was_cut_off_is_not_lost():
    assert lost(tried(line("begun", 1)), {}, {}) == []


@pytest.mark.parametrize(
    "lines",
    [
        (line("begun", 1), line("begun", 2, pid=2), line("beside", 2, pid=2), line("ended", 3)),
        (line("begun", 1), line("ended", 2), line("begun", 101, pid=2)),
        (line("begun", 1), line("ended", 2), line("begun", 3), line("ended", 4)),
    ],
    ids=["while another has it", "when it is there", "by the one that has it"],
)
def test_computed_twice(lines):
    assert twice(tried(*lines), {"a": DONE}) == ["a"]


@pytest.mark.parametrize("entry", [Entry("DONE", 100.0, 2, 1, None), Entry("DONE", 100.0, 1, 2, None)])
def test_two_rows_of_one_structure_are_computed_twice(entry):
    assert twice(tried(line("begun", 1), line("ended", 2)), {"a": entry}) == ["a"]


def test_a_calculation_after_a_death_is_not_twice_but_again():
    found = tried(line("begun", 1), line("begun", 11, pid=2), line("ended", 12, pid=2))
    assert twice(found, {"a": DONE}) == []
    (one,) = again(found, [Kill("labeler", 4.0, (1,))])
    assert (one.cause, one.seconds) == ("labeler killed", 3.0)


def test_a_fault_explains_what_is_done_again():
    crash = tried(line("begun", 1), line("fault", 2, note="crash"), line("begun", 9, pid=2))
    hang = tried(line("begun", 1), line("fault", 2, note="hang"), line("begun", 9, pid=2))
    assert [(one.cause, one.seconds) for one in again(crash, [])] == [("crash", 1.0)]
    assert [(one.cause, one.seconds) for one in again(hang, [])] == [("hang", 8.0)]


@pytest.mark.parametrize(
    ("kill", "cause"),
    [
        (Kill("driver", 4.0, (77,)), "driver killed"),
        (Kill("node", 4.0, (5, 1)), "node killed"),
        (Kill("node", 4.0, (5, 6)), None),
        (Kill("trainer", 4.0, (77,)), None),
        (Kill("labeler", 0.5, (1,)), None),
        (Kill("labeler", 20.0, (1,)), None),
    ],
)
def test_only_a_kill_of_that_process_or_of_the_driver_at_the_time_explains_it(kill, cause):
    found = tried(line("begun", 1), line("begun", 11, pid=2))
    assert [one.cause for one in again(found, [kill])] == [cause]

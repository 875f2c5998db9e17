"""Rows of the bench: each limit is missed by what it is there for."""

from dataclasses import replace

import pytest

from nearedge.bench.chaos.account import Entry, Kill
from nearedge.bench.chaos.campaign import Size
from nearedge.bench.chaos.evidence import Evidence, Outcome
from nearedge.bench.chaos.journal import Line
from nearedge.bench.chaos.plan import FAULTS, VICTIMS
from nearedge.bench.chaos.quality import DEVIATIONS, SPREADS, Spread
from nearedge.bench.chaos.rows import rows

SIZE = Size(starting=4, baseline=1, guided=2, first_strike=2)
CALM = Outcome(0, 30.0, 1, 2, 1, 0.010, 0.4, 0.5, [1.0, 2.0])
SHAKEN = replace(CALM, sessions=2, seconds=60.0, best_distance=0.012)
FAULT_LINES = [
    line
    for number, fault in enumerate(FAULTS)
    for line in (
        Line("begun", fault, number, "", 1.0),
        Line("fault", fault, number, "", 2.0, fault),
        Line("begun", fault, 10 + number, "", 3.0),
        Line("ended", fault, 10 + number, "", 4.0),
    )
]
LABELS = dict(zip(FAULTS, range(len(FAULTS)), strict=True))
WELL = Evidence(
    started=0.0,
    lines=FAULT_LINES,
    kills=[Kill(victim, 3.5, (99,)) for victim in VICTIMS],
    ledger={fault: Entry("DONE", 5.0, 1, 1, None) for fault in FAULTS},
    seen=dict(LABELS),
    labels=dict(LABELS),
    open_tasks=0,
    trainings_again=1,
)


def failing(disturbed=SHAKEN, **changes):
    found = rows(CALM, disturbed, replace(WELL, **changes), VICTIMS, SIZE)
    return [row.what for row in found if row.passed is False]


def test_all_is_well():
    assert failing() == []
    shown = {row.what: row.measured for row in rows(CALM, SHAKEN, WELL, VICTIMS, SIZE)}
    assert shown["calculations done again"] == len(FAULTS)
    assert shown["of their work, wasted"] == 3 * 1.0 + 2.0
    assert shown["best spectral distance"] == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"kills": WELL.kills[1:]}, "kill -9 of a labeler"),
        ({"seen": {**LABELS, "gone": 8}}, "labels lost"),
        (
            {"lines": [*FAULT_LINES, Line("begun", "x", 1, "", 1), Line("ended", "x", 1, "", 2)]},
            "labels lost",
        ),
        ({"lines": [*FAULT_LINES, Line("begun", "hang", 50, "", 9)]}, "labels computed twice by the ledger"),
        (
            {
                "lines": [
                    *FAULT_LINES,
                    Line("begun", "x", 1, "", 1),
                    Line("fault", "x", 1, "", 2, FAULTS[2]),
                ],
                "ledger": {**WELL.ledger, "x": Entry("QUARANTINED", 5.0, 0, 1, "NotFinite")},
            },
            "labels given up for a fault",
        ),
        ({"open_tasks": 1}, "tasks left unfinished"),
        ({"actors": ["ray::Labeler"]}, "actors that outlive the campaign"),
        ({"orphans": ["sleep"]}, "orphan processes"),
        ({"scratch": ["nearedge-scratch-1"]}, "scratch left"),
    ],
)
def test_what_must_not_be_is_told(changes, what):
    assert what in failing(**changes)


def test_a_fault_that_did_not_happen_is_told():
    assert failing(lines=FAULT_LINES[4:], seen={}, labels=dict(LABELS)) == [f"oracle: {FAULTS[0]}"]


def test_work_that_nothing_explains_is_told():
    lines = [*FAULT_LINES, Line("begun", "x", 1, "", 1), Line("begun", "x", 2, "", 2)]
    assert failing(lines=lines) == ["calculations done again without a fault"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"status": 1}, "campaign finished"),
        ({"status": None}, "campaign finished"),
        ({"guided": 1}, "labels of guided and unguided samples"),
        (
            {"best_over_start": 0.4 + 3.1 * SPREADS["best over best starting structure"].std},
            "best over best starting structure",
        ),
        ({"best_over_start": None}, "best over best starting structure"),
        (
            {"late_over_unguided": 0.5 + 3.1 * SPREADS["late over unguided"].std},
            "late over unguided",
        ),
    ],
)
def test_a_worse_end_is_told(changes, what):
    assert failing(disturbed=replace(SHAKEN, **changes)) == [what]


def test_without_labels_there_is_nothing_to_compare_with():
    with pytest.raises(RuntimeError, match="no guided labels"):
        rows(replace(CALM, best_over_start=None), SHAKEN, WELL, VICTIMS, SIZE)


def test_without_an_undisturbed_campaign_those_measured_before_are_the_measure():
    limits = [spread.mean + DEVIATIONS * spread.std for spread in SPREADS.values()]
    for share in (0.99, 1.01):
        best, late = (share * limit for limit in limits)
        found = rows(
            None, replace(SHAKEN, best_over_start=best, late_over_unguided=late), WELL, VICTIMS, SIZE
        )
        missed = {row.what for row in found if row.passed is False}
        assert missed == (set() if share < 1 else set(SPREADS))


def test_the_spread_of_some_campaigns():
    assert Spread.of([0.4, 0.6]) == Spread(0.5, pytest.approx(0.02**0.5))

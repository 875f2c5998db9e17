"""The figures of the bench ``chaos`` and their limits."""

from collections.abc import Sequence

from nearedge.bench.base import Row
from nearedge.bench.chaos.campaign import Size
from nearedge.bench.chaos.evidence import Evidence, Outcome
from nearedge.bench.chaos.plan import FAULTS, Victim
from nearedge.bench.chaos.quality import SPREADS


def rows(
    undisturbed: Outcome | None, disturbed: Outcome, evidence: Evidence, victims: Sequence[Victim], size: Size
) -> list[Row]:
    """The table; baseline: the same campaign undisturbed, if it was run."""
    return [
        *_injected(evidence, victims),
        *_nothing_lost(disturbed, evidence, size),
        *_again(evidence),
        *_left(evidence),
        *_quality(undisturbed, disturbed),
    ]


def _injected(evidence: Evidence, victims: Sequence[Victim]) -> list[Row]:
    killed = [kill.victim for kill in evidence.kills]
    return [
        *(Row.at_least(f"kill -9 of a {victim}", killed.count(victim), 1) for victim in victims),
        *(Row.at_least(f"oracle: {fault}", evidence.faults[fault], 1) for fault in FAULTS),
    ]


def _nothing_lost(disturbed: Outcome, evidence: Evidence, size: Size) -> list[Row]:
    labels = len(evidence.labels)
    return [
        Row.at_least("campaign finished", float(disturbed.status == 0), 1),
        Row.at_least(
            "labels of guided and unguided samples",
            disturbed.guided + disturbed.baseline,
            size.guided + size.baseline,
        ),
        Row.shown("labels stored, starting structures included", labels),
        Row.at_most("labels lost", len(evidence.lost), 0),
        Row.at_most("labels computed twice by the ledger", len(evidence.twice), 0),
        Row.shown("labels given up, with the reason kept", len(evidence.given_up)),
        Row.at_most("labels given up for a fault", len(evidence.given_up_for_a_fault), 0),
        Row.at_most("tasks left unfinished", evidence.open_tasks, 0),
    ]


def _again(evidence: Evidence) -> list[Row]:
    unexplained = [one for one in evidence.again if one.cause is None]
    return [
        Row.shown("calculations done again", len(evidence.again)),
        Row.shown("of their work, wasted", sum(one.seconds for one in evidence.again), "s"),
        Row.at_most("calculations done again without a fault", len(unexplained), 0),
        Row.shown("trainings done again", evidence.trainings_again),
    ]


def _left(evidence: Evidence) -> list[Row]:
    return [
        Row.at_most("actors that outlive the campaign", len(evidence.actors), 0),
        Row.at_most("orphan processes", len(evidence.orphans), 0),
        Row.at_most("scratch left", len(evidence.scratch), 0),
    ]


def _quality(undisturbed: Outcome | None, disturbed: Outcome) -> list[Row]:
    baselines = dict.fromkeys(SPREADS) if undisturbed is None else undisturbed.ratios
    if undisturbed is not None and None in baselines.values():
        raise RuntimeError("the undisturbed campaign has no guided labels to compare with")
    calm = undisturbed
    return [
        *(
            Row.at_most(what, disturbed.ratios[what], spread.limit(baselines[what]), baseline=baselines[what])
            for what, spread in SPREADS.items()
        ),
        Row.shown(
            "best spectral distance",
            _milli(disturbed.best_distance),
            "10⁻³ per eV",
            baseline=None if calm is None else _milli(calm.best_distance),
        ),
        Row.shown(
            "wall time of the campaign",
            disturbed.seconds,
            "s",
            baseline=None if calm is None else calm.seconds,
        ),
        Row.shown("drivers", disturbed.sessions, "", baseline=None if calm is None else calm.sessions),
    ]


def _milli(distance: float | None) -> float | None:
    return None if distance is None else 1e3 * distance

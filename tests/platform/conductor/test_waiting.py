"""Candidates that wait for a label: never too many, never none for ever, and the most useful go first."""

import pytest
from ase import Atoms
from sqlalchemy import select
from tests.platform.conductor.sessions import count, roles, run, stop_after

from nearedge.conductor.known import Known
from nearedge_db.schema import Candidate, Generation
from nearedge_db.states import CandidateState, GenerationRole, LabelRole


@pytest.mark.parametrize("acquisition", [{"selectivity": 3.0, "max_waiting": 1}, {"max_waiting": 6}])
def test_a_campaign_whose_candidates_are_mostly_rejected_does_not_stand_still(make_world, acquisition):
    """More candidates than the buffer holds are rejected in a row: the loop must ask for others."""
    world = make_world(acquisition=acquisition, generation={"batch": 1})
    seen = []

    def contact(atoms: Atoms) -> float:
        seen.append(atoms)
        return 0.95 if len(seen) <= 2 or len(seen) % 25 == 0 else 0.3

    world.contact = contact
    _, (_, finished) = run(world)
    assert finished
    assert roles(world)[LabelRole.GUIDED] == 4
    assert count(world, Candidate, Candidate.state == CandidateState.REJECTED) > 50


def test_scored_candidates_stay_bounded(make_world):
    world = make_world(
        acquisition={"selectivity": 3.0, "max_waiting": 4}, stop={"labels": 8, "baseline_labels": 1}
    )
    session, most = world.conductor(), []
    session.run(
        lambda: most.append(
            sum(one.role is GenerationRole.GUIDED for one in session.scoring.waiting.values())
        )
    )
    assert max(most) == 4
    scored = count(world, Candidate) - 1
    assert scored >= 3.0 * 8
    dropped = count(world, Candidate, Candidate.reason == "less useful than the others")
    assert dropped == count(world, Candidate, Candidate.state == CandidateState.DROPPED)


def test_the_least_useful_candidates_are_dropped(make_world):
    acquisition = {"policy": "greedy", "selectivity": 4.0, "max_waiting": 12}
    world = make_world(acquisition=acquisition, generation={"batch": 6})
    session = stop_after(world, lambda session: len(session.scoring.waiting) >= 4)
    labelling, waiting = session.labelling, dict(session.scoring.waiting)
    session.context.config = world.config.model_copy(
        update={"acquisition": world.config.acquisition.model_copy(update={"max_waiting": 1})}
    )
    guided = [entry for entry in waiting.values() if entry.role is GenerationRole.GUIDED]
    session.context.known = Known()  # nothing fades
    for entry in guided:
        entry.nearest, entry.compared = float("inf"), 0
    dropped = labelling.drop_surplus()
    assert dropped == len(guided) - 1
    kept = [e for e in session.scoring.waiting.values() if e.role is GenerationRole.GUIDED]
    assert kept == [min(guided, key=lambda entry: entry.prediction.distance)]
    assert labelling.drop_surplus() == 0
    assert count(world, Candidate, Candidate.state == CandidateState.DROPPED) >= dropped


def test_what_a_candidate_was_worth_is_kept_when_it_is_chosen(make_world):
    """By that policy a candidate is worth its standard deviation, 0.001 here, less what is known already."""
    world = make_world(acquisition={"policy": "uncertainty", "selectivity": 2.0, "max_waiting": 6})
    run(world)
    with world.database.session() as session:
        rows = session.execute(
            select(Generation.role, Candidate.state, Candidate.acquisition_value)
            .join(Candidate, Candidate.generation_id == Generation.id)
            .order_by(Candidate.id)
        ).all()
    chosen = [
        worth
        for role, state, worth in rows
        if role is GenerationRole.GUIDED and state is CandidateState.LABELLED
    ]
    assert len(chosen) == 4
    assert all(0 < worth <= 0.001 for worth in chosen)
    others = [worth for role, state, worth in rows if state is not CandidateState.LABELLED]
    baseline = [worth for role, _, worth in rows if role is GenerationRole.BASELINE]
    assert others
    assert baseline
    assert set(others + baseline) == {None}

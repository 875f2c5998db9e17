"""Actors that die and work that fails: what can be spared costs time only, the rest ends the campaign."""

import pytest
from sqlalchemy import select
from tests.platform.conductor.sessions import assert_complete, count, roles, run

from nearedge.conductor.context import CampaignFailedError
from nearedge_db.schema import Candidate, Event, Generation
from nearedge_db.states import CandidateState, GenerationState, LabelRole, TaskKind


def test_lost_actors_only_cost_time(make_world):
    world = make_world()
    world.lost = {"labeler": {0, 3, 7}, "trainer": {0, 2}, "generator": {0, 2}, "scorer": {0, 1}}
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_a_batch_under_which_the_generator_keeps_dying_is_given_up(make_world):
    world = make_world()
    world.lost = {"generator": {0, 1, 2}}
    _, (_, finished) = run(world)
    assert finished
    with world.database.session() as session:
        (event,) = session.scalars(select(Event).where(Event.kind == "generation failed"))
        given_up = session.get_one(Generation, event.data_json["generation_id"])
    assert "died 3 times" in event.data_json["error"]
    assert given_up.state is GenerationState.CLOSED
    assert count(world, Candidate, Candidate.generation_id == given_up.id) == 0


def test_a_failed_label_sets_its_candidate_aside_and_the_campaign_goes_on(world):
    failed = []

    def fails(task):
        if task.kind == TaskKind.LABEL and len(failed) < 3:
            failed.append(task.id)
            return "NotConverged: 250 cycles"
        return None

    world.fails = fails
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)
    with world.database.session() as session:
        rows = session.scalars(select(Candidate).where(Candidate.state == CandidateState.FAILED)).all()
    assert sorted(row.task_id for row in rows) == sorted(failed)
    assert {row.reason for row in rows} == {"NotConverged: 250 cycles"}


def test_a_first_training_that_fails_ends_the_campaign_and_can_be_tried_again(world):
    world.fails = lambda task: "diverged" if task.payload.get("model_kind") == "potential" else None
    with pytest.raises(CampaignFailedError, match="first training of the potential failed: diverged"):
        run(world)
    world.fails = lambda task: None
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_a_retraining_that_fails_does_not_end_the_campaign(world):
    world.fails = lambda task: "diverged" if task.payload.get("parent_model_id") else None
    _, (_, finished) = run(world)
    assert finished
    assert roles(world)[LabelRole.GUIDED] == 4
    assert count(world, Event, Event.kind == "training failed")


def test_a_batch_that_cannot_be_generated_is_closed_and_its_trial_given_up(world):
    session = world.conductor()
    generate, broken = session.pools["generator"].answer, []

    def answer(work):
        if work.args[0].guidance_scale > 0 and not broken:
            broken.append(work)
            raise FloatingPointError("a sample went non-finite")
        return generate(work)

    session.pools["generator"].answer = answer
    assert session.run()[1]
    assert world.steering.given_up[0] == 1
    assert 1 not in world.steering.told
    assert count(world, Event, Event.kind == "generation failed") == 1


def test_a_generator_that_never_works_is_an_error(world):
    session = world.conductor()

    def answer(work):
        raise FloatingPointError("a sample went non-finite")

    session.pools["generator"].answer = answer
    with pytest.raises(FloatingPointError):
        session.run()

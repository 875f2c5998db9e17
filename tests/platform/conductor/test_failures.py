"""Actors that die and work that fails: what can be spared costs time only, the rest ends the campaign."""

from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.platform.conductor.sessions import assert_complete, count, roles, run

from nearedge.conductor import training as training_module
from nearedge.conductor.context import CampaignFailedError
from nearedge_db.schema import Candidate, Event, Generation
from nearedge_db.states import CandidateState, GenerationRole, GenerationState, LabelRole, TaskKind


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


@pytest.mark.parametrize("role", [GenerationRole.BASELINE, GenerationRole.GUIDED])
def test_a_campaign_whose_candidates_are_all_rejected_fails_and_says_why(make_world, role):
    """It would go on for ever: no label is spent, so no budget ends it."""
    baseline = 1 if role is GenerationRole.BASELINE else 0
    stop = {"labels": 4, "baseline_labels": baseline, "fruitless_generations": 7}
    world = make_world(stop=stop)
    world.contact = lambda atoms: 0.3
    with pytest.raises(CampaignFailedError, match=r"^7 batches in a row .*: contact \(the latest: ") as told:
        run(world)
    assert "\n" not in str(told.value)
    rejected = count(world, Candidate, Candidate.state == CandidateState.REJECTED)
    assert f"of {rejected} rejections {rejected} were for" in str(told.value)
    assert count(world, Candidate) == rejected
    assert count(world, Generation, Generation.role == role) >= 3
    assert count(world, Generation, Generation.state == GenerationState.OPEN) == 0
    assert world.steering.open_trials == set()
    world.contact = lambda atoms: 0.95
    assert run(world)[1][1]


def test_batches_without_a_candidate_count_only_in_a_row(make_world):
    world = make_world(generation={"batch": 1}, stop={"labels": 4, "fruitless_generations": 3})
    seen = []

    def contact(atoms):
        seen.append(atoms)
        return 0.95 if len(seen) % 3 == 0 else 0.3

    world.contact = contact
    session, (_, finished) = run(world)
    assert finished
    assert session.scoring.rejected["contact"] == count(world, Candidate, Candidate.reason.is_not(None))


def test_starting_structures_that_failed_for_good_are_tried_again(world):
    world.fails = lambda task: "no licence" if task.kind == TaskKind.SEED else None
    with pytest.raises(CampaignFailedError, match="only 0 starting structures"):
        run(world)
    world.fails = lambda task: None
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_an_mlflow_store_that_cannot_be_opened_is_told_in_one_line(world):
    session = world.conductor()
    train = session.pools["trainer"].answer

    def answer(work):
        if work.method == "open_registry":
            raise OSError("(sqlite3.OperationalError) no such table: experiments\n[SQL: SELECT\n …]")
        return train(work)

    session.pools["trainer"].answer = answer
    with pytest.raises(CampaignFailedError) as told:
        session.run()
    expected = "the MLflow store cannot be opened: (sqlite3.OperationalError) no such table: experiments"
    assert str(told.value) == expected


def test_champions_that_mlflow_does_not_take_are_an_event_and_shown_later(world, monkeypatch):
    """The server is gone for the first three trainings and the first look after them."""
    monkeypatch.setattr(training_module, "SHOW_AGAIN_S", 0.0)
    session, shown = world.conductor(), []
    train = session.pools["trainer"].answer

    def answer(work):
        if work.method == "show_champions":
            shown.append(work)
            return "gone" if len(shown) == 1 else None
        report = train(work)
        first = work.method == "work" and not shown
        return replace(report, trouble="gone") if first else report

    session.pools["trainer"].answer = answer
    assert session.run()[1]
    assert len(shown) >= 2
    assert not session.training.champions_unshown
    assert count(world, Event, Event.kind == "champions not shown") >= 2
    assert_complete(world)


def test_champions_that_were_never_shown_are_shown_at_the_end(world):
    session = world.conductor()
    train = session.pools["trainer"].answer
    session.pools["trainer"].answer = lambda work: (
        replace(train(work), trouble="gone") if work.method == "work" else train(work)
    )
    assert session.run()[1]
    assert session.training.champions_unshown
    assert world.tidied == ["sqlite:///unused.db"]


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

"""Actors that die and work that fails: what can be spared costs time only, the rest ends the campaign."""

from dataclasses import replace

import pytest
from ray.exceptions import OutOfMemoryError
from sqlalchemy import select
from tests.platform.conductor.sessions import assert_complete, count, roles, run

from nearedge.conductor import conductor as conductor_module
from nearedge.conductor import labelling as labelling_module
from nearedge.conductor import tracking as tracking_module
from nearedge.conductor.context import CampaignFailedError
from nearedge.conductor.labelling import FRUITLESS_LABELS
from nearedge_agents.tracking import TrackingReport
from nearedge_db.schema import AttemptRow, Candidate, Event, Generation, TaskRow
from nearedge_db.states import (
    CandidateState,
    GenerationRole,
    GenerationState,
    LabelRole,
    TaskKind,
    TaskState,
)
from nearedge_db.store import list_models, rollback


def test_lost_actors_only_cost_time(make_world):
    world = make_world()
    world.lost = {"labeler": {0, 3, 7}, "trainer": {0, 2}, "generator": {0, 2}, "scorer": {0, 1}}
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_the_lease_of_a_lost_actor_is_given_up_at_once(make_world):
    """Wherever it was: nobody waits a minute for the lease to end, and three times is enough."""
    world = make_world()
    world.lost = {"labeler": {0, 2, 3, 4, 5}}
    taken = []

    def dies(work):
        task = world.ledger.lease("host|1|2|labeler", task_id=work.args[0], seconds=3600)
        taken.append((task.id, task.attempts))

    world.dies = dies
    _, (_, finished) = run(world)
    assert finished
    assert len(taken) == 5
    with world.database.session() as session:
        lost = session.scalars(select(Event).where(Event.kind == "worker lost").order_by(Event.id)).all()
    assert [event.data_json["task_id"] for event in lost] == [task for task, _ in taken]
    assert {event.data_json["error"] for event in lost} == {"WorkerDied: died"}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RuntimeError("died"), "lost"),
        (TimeoutError("1 s"), "timeout"),
        (OutOfMemoryError("no"), "out of memory"),
    ],
)
def test_how_a_worker_ended_is_on_record(make_world, error, outcome):
    world = make_world()
    world.lost = {"labeler": {0}}
    world.dies = lambda work: world.ledger.lease("host|1|2|labeler", task_id=work.args[0], seconds=3600)
    session = world.conductor()
    pool = session.pools["labeler"]
    collect = pool.collect
    pool.collect = lambda ref: replace(done, error=error) if (done := collect(ref)).lost else done
    assert session.run()[1]
    with world.database.session() as db:
        tries = db.scalars(select(AttemptRow.outcome).where(AttemptRow.outcome != "done")).all()
    assert tries == [outcome]


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


def test_a_campaign_whose_labels_all_fail_ends_with_the_reason_and_can_be_continued(world):
    """It would go on for ever: no label is done, so no budget ends it."""
    world.fails = lambda task: "MissingData: no pw.x" if task.kind == TaskKind.LABEL else None
    with pytest.raises(
        CampaignFailedError, match=r"^25 labels in a row failed .*: MissingData: no pw\.x$"
    ) as told:
        run(world)
    assert len(str(told.value)) < 200
    failed = count(world, TaskRow, TaskRow.state == TaskState.QUARANTINED)
    assert failed in range(FRUITLESS_LABELS, FRUITLESS_LABELS + 3)
    world.fails = lambda task: None
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_labels_that_fail_count_only_in_a_row(world, monkeypatch):
    monkeypatch.setattr(labelling_module, "FRUITLESS_LABELS", 2)
    seen = []

    def every_other(task):
        seen.append(task.kind == TaskKind.LABEL)
        return "NotConverged: 250 cycles" if seen[-1] and sum(seen) % 2 else None

    world.fails = every_other
    _, (_, finished) = run(world)
    assert finished
    assert count(world, TaskRow, TaskRow.state == TaskState.QUARANTINED) > 2


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
    with pytest.raises(CampaignFailedError, match=r"only 0 starting structures.*no licence"):
        run(world)
    world.fails = lambda task: None
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


TRACK = "track"
DOWN = TrackingReport(unsent=1, trouble="the MLflow server does not answer as it should")


def telling(session, answer):
    """Let ``answer(count)`` be what comes of telling MLflow for the count-th time; the works are returned."""
    train, told = session.pools["trainer"].answer, []

    def do(work):
        if work.method != TRACK:
            return train(work)
        told.append(work)
        return answer(len(told))

    session.pools["trainer"].answer = do
    return told


def gone(count):
    raise OSError("(sqlite3.OperationalError) no such table: experiments\n[SQL: SELECT\n …]")


@pytest.mark.parametrize("answer", [gone, lambda count: DOWN], ids=["breaks", "is told"])
def test_an_mlflow_that_is_down_all_the_time_does_not_stop_the_campaign(world, answer):
    """It is asked again after each training, told of once, and the end tries a last time."""
    session = world.conductor()
    told = telling(session, answer)
    assert session.run()[1]
    assert_complete(world)
    assert session.tracking.trouble is not None
    trainings = count(world, TaskRow, TaskRow.kind == "train", TaskRow.state == TaskState.DONE)
    assert 2 <= len(told) <= 1 + trainings
    assert all(work.upkeep and work.args == (1, True) for work in told)
    with world.database.session() as db:
        (event,) = db.scalars(select(Event).where(Event.kind.like("tracking%")))
    assert event.kind == "tracking delayed"
    assert "\n" not in event.data_json["error"]
    assert world.tidied == ["sqlite:///unused.db"]


def test_mlflow_that_comes_back_is_told_without_a_new_training(world, monkeypatch):
    monkeypatch.setattr(tracking_module, "AGAIN_S", 0.0)
    session = world.conductor()
    told = telling(session, lambda count: DOWN if count < 4 else TrackingReport(sent=3))
    assert session.run()[1]
    assert len(told) >= 4
    assert told[-1].args == (1, False)
    assert session.tracking.trouble is None
    events = [count(world, Event, Event.kind == f"tracking {what}") for what in ("delayed", "goes on")]
    assert events == [1, 1]
    assert world.tidied == []


def test_mlflow_that_holds_the_trainer_does_so_one_at_a_time(make_world):
    """With two trainers, one goes on training."""
    world = make_world(pools={"trainer": {"size": 2}})
    session, most = world.conductor(), [0]
    pool = session.pools["trainer"]
    submit = pool.submit

    def counting(work):
        submit(work)
        most[0] = max(most[0], sum(one.method == TRACK for one in pool.under_way))

    pool.submit = counting
    assert session.run()[1]
    assert most == [1]


def test_a_champion_chosen_by_hand_is_taken_up_by_the_running_campaign(world, monkeypatch):
    monkeypatch.setattr(conductor_module, "ACCOUNT_EVERY_S", 0.0)
    session, chosen = world.conductor(), []

    def tick():
        with world.database.begin() as db:
            rows = list_models(db, 1, "surrogate")
            if len(rows) > 1 and not chosen:
                chosen.append(rollback(db, 1, "surrogate").id)
            elif chosen and session.context.champions["surrogate"].model_id == chosen[0]:
                session.interrupted = True

    session.run(tick)
    assert session.context.champions["surrogate"].model_id == chosen[0]


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

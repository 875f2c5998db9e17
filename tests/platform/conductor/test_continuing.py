"""A campaign goes on where it was: nothing is lost, and nothing is paid for twice."""

import pytest
from tests.platform.conductor.fake_world import carbon
from tests.platform.conductor.sessions import Killed, assert_complete, count, run, stop_after

from nearedge.conductor.labelling import Subject
from nearedge_db.schema import CampaignStructure, Candidate, Generation, LabelUse, TaskRow
from nearedge_db.states import CandidateState, LabelRole, TaskState
from nearedge_db.store import take_up


def test_a_finished_campaign_has_nothing_to_do(world):
    run(world)
    before = (count(world, TaskRow), count(world, Generation), len(world.labels_computed))
    session, (reason, finished) = run(world)
    assert finished
    assert reason.startswith("budget")
    assert session.pools["labeler"].given == []
    assert (count(world, TaskRow), count(world, Generation), len(world.labels_computed)) == before


@pytest.mark.parametrize("labels", [3, 5, 6, 7, 9])
def test_a_driver_killed_after_any_label_goes_on_without_loss(world, labels):
    stop_after(world, lambda session: len(world.labels_computed) >= labels)
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)


def test_a_driver_killed_again_and_again_gets_there(world):
    """Trainings and labels under way are given back without spending an attempt."""
    for number in range(1, 12):
        stop_after(world, lambda session, number=number: len(world.labels_computed) >= min(number, 10))
    _, (_, finished) = run(world)
    assert finished
    assert_complete(world)
    assert count(world, TaskRow, TaskRow.state == TaskState.QUARANTINED) == 0


def test_a_label_finished_under_a_dead_driver_is_used(world, monkeypatch):
    """The task is DONE, the candidate still QUEUED: the next session settles it and computes nothing again."""
    from nearedge.conductor.labelling import Labelling

    with monkeypatch.context() as patch:
        patch.setattr(Labelling, "_settle", lambda self, task: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            world.conductor().run()
    assert count(world, Candidate, Candidate.state == CandidateState.QUEUED) >= 1
    assert count(world, LabelUse, LabelUse.role != LabelRole.SEED) == 0
    run(world)
    assert_complete(world)


def test_a_label_that_optuna_was_not_told_of_is_told_later(world):
    run(world)
    everything = dict(world.steering.measured)
    world.steering.measured.clear()
    run(world)
    assert world.steering.measured == everything


def test_what_is_known_is_known_again_after_a_restart(world):
    first, _ = run(world)
    second, _ = run(world)
    assert len(second.context.known) == len(first.context.known) == 11
    assert second.context.best_distance == first.context.best_distance
    assert second.labelling.since_best == first.labelling.since_best
    assert second.scoring.scored_guided == first.scoring.scored_guided
    assert set(second.scoring.waiting) == set(first.scoring.waiting)


def test_settling_twice_changes_nothing(world):
    session, _ = run(world)
    before = {table: count(world, table) for table in (LabelUse, CampaignStructure, Candidate)}
    for task in session.seeding._tasks.values():
        session.seeding._settle(world.ledger.get(task.id))
    with world.database.session() as rows:
        candidate = next(take_up(rows, 1, [CandidateState.LABELLED]))
    for _ in range(2):
        session.labelling._followed[candidate.task_id] = Subject.taken_up(candidate)
        session.labelling._settle(candidate.task_id)
    assert {table: count(world, table) for table in before} == before
    assert session.labelling.guided_labels == 4


def test_a_label_that_another_campaign_paid_for_is_taken(world):
    """The starting structures are in the ledger already, made by somebody else."""
    starting = [carbon(seed) for seed in range(5)]
    run(world, starting=starting)
    computed = len(world.labels_computed)
    with world.database.begin() as session:
        from nearedge_db.store import create_campaign

        second = create_campaign(session, "second", {}, seed=1, absorber="C")
    conductor = world.conductor(starting)
    conductor.context.campaign_id = second.id
    conductor.seeding.start()
    assert conductor.seeding.complete
    assert len(world.labels_computed) == computed


def test_a_finished_campaign_goes_on_with_a_larger_budget(world):
    """What was scored before counts: only the further labels need further candidates."""
    run(world)
    before = count(world, Candidate)
    world.config = world.config.model_copy(
        update={"stop": world.config.stop.model_copy(update={"labels": 6})}
    )
    session, (reason, finished) = run(world)
    assert finished
    assert reason == "budget: 6 labels spent"
    assert session.labelling.guided_labels == 6
    selectivity, batch = world.config.acquisition.selectivity, world.config.generation.batch
    assert count(world, Candidate) - before <= 2 * selectivity + 3 * batch

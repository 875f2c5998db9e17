"""Whole campaigns with fake actors: they end, they go on where they were, nothing is paid for twice."""

import pytest
from ase import Atoms
from sqlalchemy import func, select
from tests.platform.conductor.fake_world import World, carbon

from nearedge.conductor import conductor as conductor_module
from nearedge.conductor.context import CampaignFailedError
from nearedge_db.schema import (
    CampaignStructure,
    Candidate,
    Event,
    Generation,
    LabelRow,
    LabelUse,
    ModelRow,
    TaskRow,
)
from nearedge_db.states import (
    CampaignState,
    CandidateState,
    GenerationRole,
    GenerationState,
    LabelRole,
    StructureOrigin,
    TaskKind,
    TaskState,
)
from nearedge_db.store import list_events, set_campaign_state, used_labels


class Killed(BaseException):
    """What `kill -9` does: no handler runs but `finally`."""


def count(world: World, table, *conditions) -> int:
    with world.database.session() as session:
        return session.scalar(select(func.count()).select_from(table).where(*conditions))


def roles(world: World) -> dict[LabelRole, int]:
    with world.database.session() as session:
        uses = [use for use, _ in used_labels(session, 1)]
    return {role: sum(use.role is role for use in uses) for role in LabelRole}


def run(world: World, limit: int = 3000, starting: list[Atoms] | None = None):
    """Run a session to its end; a campaign that stands still is a failure, not a hanging test."""
    session, ticks = world.conductor(starting), [0]

    def tick() -> None:
        ticks[0] += 1
        assert ticks[0] < limit, "the campaign stands still"

    return session, session.run(tick)


def stop_after(world: World, done) -> object:
    """Run a session and kill it as soon as ``done(conductor)`` holds."""
    session = world.conductor()

    def tick() -> None:
        if done(session):
            raise Killed

    with pytest.raises(Killed):
        session.run(tick)
    return session


def assert_complete(world: World) -> None:
    """Budget spent, every label once, nothing under way."""
    assert roles(world) == {
        LabelRole.SEED: 5,
        LabelRole.BASELINE: 2,
        LabelRole.GUIDED: 4,
        LabelRole.CONFIRM: 0,
    }
    assert len(world.labels_computed) == len(set(world.labels_computed))
    assert count(world, LabelRow) == len(world.labels_computed)
    assert count(world, TaskRow, TaskRow.kind == "label", TaskRow.state == TaskState.DONE) == 6
    assert count(world, TaskRow, TaskRow.state.in_([TaskState.PENDING, TaskState.LEASED])) == 0
    assert count(world, Candidate, Candidate.state == CandidateState.QUEUED) == 0
    assert count(world, LabelUse, LabelUse.spectral_distance.is_(None)) == 0


def test_a_campaign_runs_to_its_budget(world):
    _, (reason, finished) = run(world)
    assert finished
    assert reason == "budget: 4 labels spent"
    assert_complete(world)


def test_every_label_is_told_to_optuna_once(world):
    run(world)
    with world.database.session() as session:
        distances = sorted(use.spectral_distance for use, _ in used_labels(session, 1))
    assert sorted(facts[1] for facts in world.steering.measured.values()) == pytest.approx(distances)
    assert set(world.steering.told) <= set(range(1, world.steering.asked + 1))


def test_the_baseline_comes_before_guided_candidates(world):
    session, _ = run(world)
    scales = [work.args[0].guidance_scale for work in session.pools["generator"].given]
    assert scales[0] == 0.0
    assert scales == sorted(scales)


def test_the_first_guided_settings_do_not_depend_on_how_fast_the_baseline_is(world):
    """They are chosen when only the starting structures are known."""
    run(world)
    assert world.steering.known_when_asked[0] == 5
    with world.database.session() as session:
        first = session.scalars(select(Generation).where(Generation.role == GenerationRole.GUIDED)).first()
    assert first.trial_number == 1


def test_models_are_retrained_on_new_labels(world):
    run(world)
    with world.database.session() as rows:
        models = rows.scalars(select(ModelRow).order_by(ModelRow.id)).all()
    assert [model.kind for model in models[:3]] == ["prior", "surrogate", "potential"]
    again = models[3]
    assert again.kind == "surrogate"
    assert again.parent_id == models[1].id
    assert again.n_train + again.n_held_out >= models[1].n_train + models[1].n_held_out + 3


def test_candidates_that_wait_are_scored_again_by_a_new_model(make_world):
    world = make_world(acquisition={"selectivity": 4.0, "max_waiting": 12}, generation={"batch": 6})
    session, _ = run(world)
    rescored = [work for work in session.pools["scorer"].given if work.method == "predict"]
    assert rescored


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
        closed = session.scalars(select(Generation).where(Generation.state == GenerationState.CLOSED)).all()
        events = session.scalars(select(Event).where(Event.kind == "generation failed")).all()
    assert len(closed) == len(events) == 1
    assert "died 3 times" in events[0].data_json["error"]


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


def test_a_failed_starting_structure_is_left_out(world):
    failed = []

    def fails(task):
        if task.kind == TaskKind.SEED and not failed:
            failed.append(task.id)
            return "BadGeometry: overlap"
        return None

    world.fails = fails
    _, (_, finished) = run(world)
    assert finished
    assert roles(world)[LabelRole.SEED] == 4
    with world.database.session() as session:
        assert len(list_events(session, 1, "seed failed")) == 1


def test_too_few_starting_structures_end_the_campaign(world):
    world.fails = lambda task: "BadGeometry" if task.kind == TaskKind.SEED and task.id > 3 else None
    with pytest.raises(CampaignFailedError, match=r"only 3 .*\(2 failed\)"):
        run(world)


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
    with world.database.session() as session:
        assert list_events(session, 1, "training failed")


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
    assert world.steering.given_up == [1]
    with world.database.session() as rows:
        assert len(list_events(rows, 1, "generation failed")) == 1


def test_a_generator_that_never_works_is_an_error(world):
    session = world.conductor()

    def answer(work):
        raise FloatingPointError("a sample went non-finite")

    session.pools["generator"].answer = answer
    with pytest.raises(FloatingPointError):
        session.run()


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
    session.run(lambda: most.append(len(session.scoring.waiting)))
    assert max(most) <= 4 + 2 * world.config.generation.batch
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
    session.context.known.clear()  # nothing fades
    dropped = labelling.drop_surplus()
    assert dropped == len(guided) - 1
    kept = [e for e in session.scoring.waiting.values() if e.role is GenerationRole.GUIDED]
    assert kept == [min(guided, key=lambda entry: entry.prediction.distance)]
    assert labelling.drop_surplus() == 0
    assert count(world, Candidate, Candidate.state == CandidateState.DROPPED) >= dropped


def test_the_tolerance_ends_a_campaign_with_busy_labelers(make_world):
    """With several labelers there is nearly always a label under way: no new one may be added."""
    world = make_world(stop={"labels": 60, "baseline_labels": 1, "tolerance_per_ev": 1.0})
    _, (reason, finished) = run(world)
    assert finished
    assert reason.startswith("tolerance met")
    assert roles(world)[LabelRole.GUIDED] <= 1 + world.config.pools["labeler"].size
    assert count(world, TaskRow, TaskRow.state.in_([TaskState.PENDING, TaskState.LEASED])) == 0


def test_a_plateau_ends_it(make_world):
    world = make_world(stop={"labels": 200, "baseline_labels": 1, "plateau_labels": 6})
    session, (reason, finished) = run(world, limit=20_000)
    assert finished
    assert reason.startswith("plateau")
    assert session.labelling.since_best >= 6
    assert roles(world)[LabelRole.GUIDED] < 200


def test_a_stop_request_is_obeyed_and_the_campaign_can_go_on(world, monkeypatch):
    monkeypatch.setattr(conductor_module, "ACCOUNT_EVERY_S", 0.0)
    session, asked = world.conductor(), []

    def tick() -> None:
        if len(world.labels_computed) >= 6 and not asked:
            asked.append(True)
            with world.database.begin() as rows:
                set_campaign_state(rows, 1, CampaignState.STOPPING)

    assert session.run(tick) == ("stop requested", False)
    assert roles(world)[LabelRole.GUIDED] < 4
    assert count(world, TaskRow, TaskRow.state == TaskState.LEASED) == 0
    with world.database.begin() as rows:
        set_campaign_state(rows, 1, CampaignState.RUNNING)
    assert run(world)[1][1]
    assert_complete(world)


def test_an_interrupt_finishes_the_labels_in_flight(world):
    session = world.conductor()

    def tick() -> None:
        session.interrupted = len(world.labels_computed) >= 7

    assert session.run(tick) == ("interrupted", False)
    in_flight = count(world, TaskRow, TaskRow.kind == "label", TaskRow.state == TaskState.LEASED)
    assert in_flight == 0
    assert run(world)[1][1]
    assert_complete(world)


def test_time_is_up_even_while_starting(make_world):
    world = make_world(stop={"labels": 4, "baseline_labels": 2, "wall_minutes": 1e-9})
    _, (reason, finished) = run(world)
    assert finished
    assert reason.startswith("wall time")


def test_settling_twice_changes_nothing(world):
    session, _ = run(world)
    before = {table: count(world, table) for table in (LabelUse, CampaignStructure, Candidate)}
    for task in session.seeding._tasks.values():
        session.seeding._settle(world.ledger.get(task.id))
    with world.database.session() as rows:
        candidate = rows.scalars(select(Candidate).where(Candidate.state == CandidateState.LABELLED)).first()
        generation = rows.get_one(Generation, candidate.generation_id)
    task = world.ledger.get(candidate.task_id)
    for _ in range(2):
        session.labelling._role[task.id] = (generation.role, candidate.id)
        session.labelling._settle(task)
    assert {table: count(world, table) for table in before} == before
    assert session.labelling.guided_labels == 4


def test_some_starting_structures_are_always_held_out(make_world):
    """Even where one over the fraction is more than there are."""
    world = make_world(seeds={"count": 4, "held_out_fraction": 0.1})
    run(world)
    held_out = (CampaignStructure.origin == StructureOrigin.SEED, CampaignStructure.held_out)
    assert count(world, CampaignStructure, *held_out) == 1


def test_own_starting_structures_are_labelled_and_groups_stay_together(world):
    starting = [carbon(seed) for seed in range(8)]
    for index, atoms in enumerate(starting):
        atoms.info["group"] = f"network {index // 2}"
    _, (_, finished) = run(world, starting=starting)
    assert finished
    assert roles(world)[LabelRole.SEED] == 8
    with world.database.session() as session:
        links = session.scalars(
            select(CampaignStructure).where(CampaignStructure.origin == StructureOrigin.SEED)
        ).all()
    sides = {}
    for link in links:
        sides.setdefault(link.group_name, set()).add(link.held_out)
    assert len(sides) == 4
    assert all(len(side) == 1 for side in sides.values())
    assert sum(True in side for side in sides.values()) >= 1


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

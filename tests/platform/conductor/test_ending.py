"""The ways a campaign ends or stops."""

import pytest
from sqlalchemy import select
from tests.platform.conductor.sessions import Killed, assert_complete, count, roles, run

from nearedge.conductor import conductor as conductor_module
from nearedge.driving import DriverReplacedError
from nearedge_db.schema import Candidate, Generation, TaskRow
from nearedge_db.states import CampaignState, GenerationRole, GenerationState, LabelRole, TaskState
from nearedge_db.store import set_campaign_state


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


def test_a_finished_campaign_leaves_no_batch_and_no_trial_open(make_world):
    """More settings are tried than labels are wanted: what is left of them is closed."""
    world = make_world(stop={"labels": 4, "baseline_labels": 0, "tolerance_per_ev": 1.0})
    session = world.conductor()
    assert session.run()[1]
    open_batches = [work for work in session.pools["generator"].given if work.tag not in scored(world)]
    assert open_batches
    assert count(world, Generation, Generation.state != GenerationState.CLOSED) == 0
    assert count(world, Generation, Generation.closed_at.is_(None)) == 0
    assert world.steering.given_up
    assert world.steering.open_trials == set()


def scored(world) -> set[int]:
    """Generations that have candidates."""
    with world.database.session() as session:
        return set(session.scalars(select(Candidate.generation_id)))


def test_a_stopped_campaign_keeps_its_batches_and_trials(world):
    session = world.conductor()

    def tick() -> None:
        session.interrupted = len(world.labels_computed) >= 8

    assert session.run(tick) == ("interrupted", False)
    assert count(world, Generation, Generation.state == GenerationState.CLOSED) == 0
    assert world.steering.given_up == []


def keep_busy(pool, keep) -> None:
    """Let a pool never finish the work for which ``keep`` holds."""
    refs = type(pool).refs

    class Busy(type(pool)):
        @property
        def refs(self):
            return [ref for ref in refs.fget(self) if not keep(self.works[ref[1]][0])]

    pool.__class__ = Busy


def test_an_interrupt_waits_for_labels_however_long_they_take(world, monkeypatch):
    """Also when the time is up that a campaign has at its end."""
    monkeypatch.setattr(conductor_module, "GRACE_S", -1.0)
    session, ticks = world.conductor(), []
    keep_busy(session.pools["labeler"], lambda work: len(ticks) < 60)

    def tick() -> None:
        ticks.append(session.labels_in_flight)
        session.interrupted = len(ticks) > 20

    assert session.run(tick) == ("interrupted", False)
    assert ticks[-1] == 0
    assert len(ticks) >= 60
    assert session.given_up == 0


@pytest.mark.parametrize("patience", [300.0, -1.0])
def test_an_interrupt_waits_for_a_training_but_not_for_ever(world, monkeypatch, patience):
    """What it does not wait for goes back to the ledger, and no attempt is spent."""
    monkeypatch.setattr(conductor_module, "TRAINING_S", patience)
    session, ticks = world.conductor(), []
    keep_busy(session.pools["trainer"], lambda work: work.method == "work" and len(ticks) < 60)

    def tick() -> None:
        ticks.append([work.method for work in session.pools["trainer"].under_way])
        session.interrupted = session.interrupted or "work" in ticks[-1]

    assert session.run(tick) == ("interrupted", False)
    of_trainings = TaskRow.kind == "train"
    assert count(world, TaskRow, of_trainings, TaskRow.state == TaskState.LEASED) == 0
    done = count(world, TaskRow, of_trainings, TaskRow.state == TaskState.DONE)
    assert (done > 0) == (len(ticks) >= 60) == (patience > 0)
    assert count(world, TaskRow, of_trainings, TaskRow.attempts > 0) == done
    assert run(world)[1][1]
    assert_complete(world)


def test_a_second_interrupt_gives_labels_up_and_counts_them(world):
    session, ticks = world.conductor(), []
    keep_busy(session.pools["labeler"], lambda work: True)

    def tick() -> None:
        ticks.append(session.labels_in_flight)
        session.interrupted = len(ticks) > 20
        if len(ticks) > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run(tick)
    assert session.given_up == ticks[-1] == world.config.pools["labeler"].size
    assert world.tidied == []


def test_the_end_waits_for_a_trainer_that_is_telling_mlflow(world):
    session, ticks = world.conductor(), []
    keep_busy(session.pools["trainer"], lambda work: work.method == "track" and len(ticks) < 40)

    def tick() -> None:
        ticks.append(session.tracking.under_way)
        session.interrupted = True

    assert session.run(tick) == ("interrupted", False)
    assert ticks[0]
    assert not session.tracking.under_way
    assert world.tidied == []


def test_what_mlflow_does_not_have_at_the_end_is_sent_then(world):
    """Also where the trainers did not come to it: the driver does it once they are gone."""
    session = world.conductor()
    world.ledger.submit("track", "track:1", {"model_id": 1}, campaign_id=session.context.campaign_id)
    session.run(lambda: setattr(session, "interrupted", True))
    assert world.tidied == ["sqlite:///unused.db"]


def test_a_campaign_that_is_left_in_a_hurry_does_not_wait_for_mlflow(world):
    session = world.conductor()
    world.ledger.submit("track", "track:1", {"model_id": 1}, campaign_id=session.context.campaign_id)

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run(tick)
    assert world.tidied == []


def test_a_driver_that_was_replaced_leaves_at_once_and_touches_nothing(world):
    session = world.conductor()
    session.context.is_replaced = lambda: len(world.labels_computed) >= 7
    with pytest.raises(DriverReplacedError, match="another driver"):
        session.run()
    assert world.tidied == []


def test_a_batch_is_scored_and_optuna_told_together_or_not_at_all(world):
    """The driver was killed before the end of the transaction: batch and trial go on as they were."""
    told = world.steering.tell
    world.steering.tell = lambda *facts: (_ for _ in ()).throw(Killed())
    with pytest.raises(Killed):
        world.conductor().run()
    guided = (Generation.role == GenerationRole.GUIDED, Generation.trial_number.is_not(None))
    with world.database.session() as rows:
        states = set(rows.scalars(select(Generation.state).where(*guided)))
        trials = set(rows.scalars(select(Generation.trial_number).where(*guided)))
    assert states == {GenerationState.OPEN}
    assert trials == world.steering.open_trials
    world.steering.tell = told
    assert run(world)[1][1]
    assert trials <= set(world.steering.told)
    assert world.steering.open_trials == set()

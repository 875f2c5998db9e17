"""Whole campaigns with fake actors: every stage does its part, and the campaign ends."""

import pytest
from sqlalchemy import select
from tests.platform.conductor.sessions import assert_complete, run

from nearedge_db.schema import Generation, ModelRow
from nearedge_db.states import GenerationRole
from nearedge_db.store import label_uses


def test_a_campaign_runs_to_its_budget(world):
    _, (reason, finished) = run(world)
    assert finished
    assert reason == "budget: 4 labels spent"
    assert_complete(world)


def test_every_label_is_told_to_optuna_once(world):
    run(world)
    with world.database.session() as session:
        distances = sorted(use.spectral_distance for use in label_uses(session, 1))
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

"""Whole campaigns with fake actors: every stage does its part, and the campaign ends."""

from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.platform.conductor.sessions import assert_complete, run

from nearedge.latency import read_latency
from nearedge_db.schema import Candidate, Event, Generation, ModelRow
from nearedge_db.states import GenerationRole
from nearedge_db.store import label_uses, pool_totals, totals_since_models


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


def test_no_candidate_waits_with_the_score_of_an_older_model(make_world):
    """Looked at whenever the scorer does not have them and nothing says that it is to."""
    world = make_world(
        acquisition={"selectivity": 4.0, "max_waiting": 12}, stop={"labels": 12, "baseline_labels": 2}
    )
    session, seen = world.conductor(), set()

    def look() -> None:
        has_them = any(work.method == "predict" for work in session.pools["scorer"].under_way)
        if has_them or session.training.new_champions or not session.scoring.waiting:
            return
        with world.database.session() as rows:
            waiting = [rows.get_one(Candidate, key) for key in session.scoring.waiting]
        newest = session.context.champions["surrogate"].model_id
        assert {candidate.surrogate_model_id for candidate in waiting} == {newest}
        seen.add(newest)

    session.run(look)
    assert len(seen) >= 3


def test_what_the_pools_did_before_the_models_is_told_apart(world):
    run(world)
    with world.database.session() as rows:
        whole, late = pool_totals(rows, 1), totals_since_models(rows, 1)
        marks = rows.scalars(select(Event).where(Event.kind == "models ready")).all()
    assert len(marks) == 1
    assert 0 < late["labeler"].capacity_seconds < whole["labeler"].capacity_seconds
    assert late["labeler"].occupancy == pytest.approx(0.5)  # as the fake pools say
    run(world)
    with world.database.session() as rows:
        assert len(rows.scalars(select(Event).where(Event.kind == "models ready")).all()) == 1
        assert read_latency(rows, 1).labels > 0


def test_a_batch_that_was_scored_with_outdated_models_is_predicted_again(world):
    """The better model arrives while the scorer has the batch."""
    session = world.conductor()
    scorer, judged = session.pools["scorer"], []
    score = scorer.answer

    def answer(work):
        champions = session.context.champions
        if work.method == "score" and not judged and work.args[1].spectral_weight_ev > 0:
            judged.append(work.args[2].surrogate.model_id)
            champions["surrogate"] = replace(champions["surrogate"], model_id=champions["potential"].model_id)
        elif judged and work.method == "predict":
            judged.append(work.args[1].surrogate.model_id)
        return score(work)

    scorer.answer = answer
    assert session.run()[1]
    assert len(judged) >= 2
    assert judged[1] != judged[0]


def test_a_run_directory_that_moved_still_has_its_models(world, tmp_path):
    run(world)
    with world.database.session() as rows:
        folders = rows.scalars(select(ModelRow.folder)).all()
    assert folders[0] == "models/prior/000"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (world.folder / "models").rename(elsewhere / "models")
    world.config = world.config.model_copy(update={"dir": elsewhere})
    context = world.conductor().context
    assert sorted(context.refresh_champions()) == ["potential", "prior", "surrogate"]

"""Campaigns that start from given models: registered first, refined gently, never trained from nothing."""

import shutil

import pytest
from sqlalchemy import select
from tests.platform.conductor.fake_world import World
from tests.platform.conductor.sessions import assert_complete, count, run, stop_after

from nearedge.conductor.context import CampaignFailedError
from nearedge.config import MODEL_KINDS
from nearedge.starting import REFINING, Start, StartingModel
from nearedge_agents.kinds import make_kind
from nearedge_db.schema import Event, ModelRow, TaskRow
from nearedge_db.states import TaskKind
from nearedge_db.store import list_models

WHY = "it knows Si, the material is C"


@pytest.fixture
def given(tmp_path):
    """One file for each kind, as a model to start from."""
    models = {}
    for kind in MODEL_KINDS:
        folder = tmp_path / "elsewhere" / kind
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_text(f"a {kind} from elsewhere")
        (folder / "config.json").write_text("{}")
        (folder / "metrics.json").write_text("no part of the model")
        models[kind] = StartingModel(folder, "shipped", f"sha256:{kind}")
    return models


@pytest.fixture
def started(world, given):
    """A world whose campaigns start from given models of all kinds."""
    world.start = Start(given)
    return world


def models_of(world: World, kind: str | None = None) -> list[ModelRow]:
    with world.database.session() as session:
        return list_models(session, 1, kind)


def events(world: World, kind: str) -> list[dict]:
    with world.database.session() as session:
        return [row.data_json for row in session.scalars(select(Event).where(Event.kind == kind))]


def trainings(world: World, kind: str) -> list[dict]:
    """What the tasks of a kind of model were told, oldest first."""
    with world.database.session() as session:
        rows = session.scalars(select(TaskRow).where(TaskRow.kind == TaskKind.TRAIN).order_by(TaskRow.id))
        return [row.payload_json for row in rows if row.payload_json["model_kind"] == kind]


def test_the_first_models_are_the_given_ones(started):
    _, (_, finished) = run(started)
    assert finished
    assert_complete(started)
    for kind in MODEL_KINDS:
        first = models_of(started, kind)[0]
        files = sorted(path.name for path in (started.folder / "models" / kind / "000").iterdir())
        assert files == ["config.json", "weights.safetensors"]
        text = (started.folder / "models" / kind / "000" / "weights.safetensors").read_text()
        assert text == f"a {kind} from elsewhere"
        assert (first.n_train, first.parent_id) == (0, None)
        assert first.n_held_out > 0
    told = {event["kind"]: event for event in events(started, "started from")}
    assert set(told) == set(MODEL_KINDS)
    assert told["prior"]["start"] == "shipped"
    assert told["prior"]["weights"] == "sha256:prior"
    assert events(started, "trained from nothing") == []


def test_they_generate_and_score(started):
    session, _ = run(started)
    prior = session.pools["generator"].given[0].args[2]
    assert prior.files["weights.safetensors"] == b"a prior from elsewhere"
    judging = next(work.args[2] for work in session.pools["scorer"].given if work.method == "score")
    assert judging.potential.files["weights.safetensors"] == b"a potential from elsewhere"


def test_starting_structures_are_not_new_labels(started):
    """They set off no training; so many labels as `retrain_every` says do, and the training sees all."""
    run(started)
    first, second = trainings(started, "surrogate")[:2]
    starting = 5
    assert first["train"] == []
    assert len(second["train"]) + len(second["held_out"]) >= starting + 3
    assert set(first["held_out"]) <= set(second["held_out"])
    assert second["parent_model_id"] == models_of(started, "surrogate")[0].id
    assert len(models_of(started, "prior")) == 1


def test_refined_gently_unless_the_settings_say_otherwise(make_world, given):
    world = make_world(
        models={
            "surrogate": {"batch_atoms": 99, "refine_learning_rate": 1e-4},
            "retrain": {"surrogate": {"refine_steps": 7}},
            "retrain_every": {"surrogate": 3},
        }
    )
    world.start = Start(given)
    run(world)
    assert trainings(world, "surrogate")[0]["settings"] == {}
    again = trainings(world, "surrogate")[1]["settings"]
    assert again == {"batch_atoms": 99, "refine_learning_rate": 1e-4, "refine_steps": 7}


def test_models_trained_here_are_retrained_as_they_always_were(world):
    run(world)
    assert trainings(world, "surrogate")[1]["settings"] == {}


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_the_gentle_settings_are_settings_of_the_model(kind):
    settings = make_kind(kind).settings(**REFINING[kind])
    assert {key: getattr(settings, key) for key in REFINING[kind]} == REFINING[kind]
    usual = make_kind(kind).settings()
    assert all(value < getattr(usual, key) for key, value in REFINING[kind].items())


def test_what_does_not_fit_is_trained_from_nothing_and_said(world, given):
    del given["potential"]
    world.start = Start(given, {"potential": WHY})
    _, (_, finished) = run(world)
    assert finished
    assert events(world, "trained from nothing") == [{"kind": "potential", "reason": WHY}]
    assert models_of(world, "potential")[0].n_train > 0
    assert models_of(world, "surrogate")[0].n_train == 0


def test_nothing_is_said_once(world):
    world.start = Start(from_nothing=dict.fromkeys(MODEL_KINDS, "models.start is nothing"))
    stop_after(world, lambda session: session.labelling.guided_labels >= 1)
    run(world)
    assert [event["kind"] for event in events(world, "trained from nothing")] == list(MODEL_KINDS)
    assert all(model.n_train > 0 for model in models_of(world))


def test_a_continued_campaign_needs_the_given_models_no_more(started, given):
    """Killed when they are there; then what it started from goes, and other models are named."""
    stop_after(started, lambda session: len(session.context.champions) == 3)
    before = len(models_of(started))
    shutil.rmtree(given["prior"].folder.parent)
    started.start = Start(from_nothing=dict.fromkeys(MODEL_KINDS, WHY))
    _, (_, finished) = run(started)
    assert finished
    assert len(events(started, "started from")) == before == 3
    assert trainings(started, "surrogate")[1]["settings"] == REFINING["surrogate"]
    assert events(started, "trained from nothing") == []


def test_a_session_killed_before_they_are_judged_goes_on_with_them(started, given):
    stop_after(started, lambda session: session.training.under_way == ["potential"])
    assert len(models_of(started)) == 2
    shutil.rmtree(given["prior"].folder.parent)
    _, (_, finished) = run(started)
    assert finished
    assert events(started, "started from")[-1]["kind"] == "potential"
    assert trainings(started, "surrogate")[1]["settings"] == REFINING["surrogate"]


def test_a_given_model_that_fails_ends_the_campaign(started):
    def fails(task):
        return "StartingModelError: damaged" if task.payload.get("model_kind") == "potential" else None

    started.fails = fails
    with pytest.raises(CampaignFailedError, match=r"the potential to start from failed: .*damaged"):
        run(started)
    assert count(started, ModelRow, ModelRow.kind == "potential") == 0


def test_the_same_seed_starts_the_same(given, tmp_path):
    """Nothing of the first models is left to chance: tasks, seeds and files are alike."""
    told = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        world.start = Start(given)
        run(world)
        payloads = [trainings(world, kind)[0] for kind in MODEL_KINDS]
        world.database.dispose()
        told.append([{k: v for k, v in p.items() if k != "folder"} for p in payloads])
    assert told[0] == told[1]

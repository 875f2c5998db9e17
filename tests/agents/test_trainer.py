"""What the trainer keeps for MLflow, and that it does not wait for it."""

import socket
import time
from types import SimpleNamespace

import pytest

from nearedge_agents import trainer as trainer_module
from nearedge_agents.champions import campaign_tags
from nearedge_agents.kinds import make_kind
from nearedge_agents.tracking import content_of
from nearedge_agents.trainer import Trained, Trainer
from nearedge_db.hashing import task_identity
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import add_model, champion, create_campaign, get_campaign, list_models, promote


@pytest.fixture
def trainer(database, tmp_path):
    """One whose MLflow server nobody has started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        yield Trainer(database.url, uri, "agents", tmp_path)


def task(**payload):
    given = {
        "seed": 3,
        "dataset_hash": "d" * 64,
        "campaign": "agents",
        "parent_model_id": None,
        "folder": "models/prior/000",
    }
    return SimpleNamespace(campaign_id=1, payload={**given, **payload})


def test_all_settings_of_a_training_are_recorded_with_the_sizes_of_its_data(trainer, tmp_path):
    kind = make_kind("prior")
    trained = Trained(tmp_path, {"steps": 5}, {"denoising_loss": 0.5}, better=True)
    parameters = trainer._record(kind, task(), trained, {"n_train": 20, "n_held_out": 4})["parameters"]
    assert set(parameters) == {*kind.settings.model_fields, "seed", "n_train", "n_held_out"}
    assert (parameters["steps"], parameters["seed"], parameters["n_train"]) == (5, 3, 20)
    assert parameters["n_layers"] == kind.settings().n_layers


def test_a_model_that_was_not_trained_here_has_no_settings_of_a_training(trainer, tmp_path):
    trained = Trained(tmp_path, {"n_layers": 2}, {"denoising_loss": 0.5}, better=True)
    given = task(start={"start": "shipped", "weights": "sha256:0"})
    record = trainer._record(make_kind("prior"), given, trained, {"n_train": 0, "n_held_out": 4})
    assert set(record["parameters"]) == {"n_layers", "seed", "n_train", "n_held_out"}
    assert record["tags"]["weights"] == "sha256:0"


def test_runs_carry_the_one_campaign_they_belong_to(trainer, tmp_path, database):
    trained = Trained(tmp_path, {}, {"denoising_loss": 0.5}, better=True)
    tags = campaign_tags(database, 1)
    record = trainer._record(make_kind("prior"), task(), trained, {})
    assert record["tags"] == {"campaign": "agents", "parent_model": "None", **tags}
    with database.begin() as session:
        other = create_campaign(session, "other", {}, seed=0, absorber="C")
        get_campaign(session, 1).name, other.name = "before", "agents"  # the same name, later
    assert set(campaign_tags(database, other.id).values()).isdisjoint(tags.values())


def test_the_identity_of_a_training_is_that_of_its_files_and_its_place(tmp_path):
    (tmp_path / "weights").write_text("a")
    first = content_of(tmp_path, "campaign", "models/prior/000")
    assert content_of(tmp_path, "campaign", "models/prior/000") == first
    assert content_of(tmp_path, "campaign", "models/prior/001") != first
    (tmp_path / "weights").write_text("b")
    assert content_of(tmp_path, "campaign", "models/prior/000") != first


@pytest.fixture
def trains(trainer, tmp_path, monkeypatch):
    """Lets the trainer do a task of the ledger whose training is no work."""
    monkeypatch.setattr(trainer, "_data", lambda task: ([], []))

    def train(kind, payload, train, held_out):
        folder = tmp_path / payload["folder"]
        folder.mkdir(parents=True)
        (folder / "weights").write_text(payload["folder"])
        return Trained(folder, {}, {"denoising_loss": 0.5}, better=True)

    monkeypatch.setattr(trainer, "_train", train)

    def do(number, parent=None):
        payload = task(parent_model_id=parent, folder=f"models/prior/{number:03d}").payload
        payload |= {"model_kind": "prior", "train": [], "held_out": []}
        made = trainer.ledger.submit(
            TaskKind.TRAIN, task_identity(TaskKind.TRAIN, number), payload, campaign_id=1
        )
        return made.id, trainer.work(made.id)

    return do


def test_a_finished_training_does_not_wait_for_mlflow(trainer, trains, database, tmp_path):
    started = time.monotonic()
    task_id, report = trains(0)
    assert time.monotonic() - started < 3
    assert (report.state, report.trouble) == (TaskState.DONE, None)
    with database.session() as session:
        row = champion(session, 1, "prior")
    assert (row.mlflow_run_id, row.registered_version) == (None, None)
    (record,) = trainer.ledger.open_tasks(1, TaskKind.TRACK)
    assert (record.state, record.payload["model_id"]) == (TaskState.PENDING, row.id)
    assert record.payload["started_at"] <= record.payload["finished_at"]
    assert trainer.ledger.get(task_id).payload["promoted"]
    assert (tmp_path / "models/champion/prior/weights").read_text() == "models/prior/000"


def test_a_server_that_is_down_is_told_by_the_trainer_and_takes_seconds(trainer, trains):
    trains(0)
    started = time.monotonic()
    report = trainer.track(1, True)
    assert (report.sent, report.unsent) == (0, 1)
    assert "Connection refused" in report.trouble
    assert time.monotonic() - started < 25  # importing MLflow on a busy machine included


def test_a_model_chosen_by_hand_meanwhile_is_not_deposed(trains, database):
    trains(0)
    with database.begin() as session:
        first = champion(session, 1, "prior").id
        by_hand = add_model(
            session,
            1,
            "prior",
            dataset_hash="e" * 64,
            n_train=1,
            n_held_out=1,
            metrics={},
            folder="x",
            seed=0,
        )
        promote(session, by_hand.id)
    trains(2, parent=first)
    with database.session() as session:
        assert champion(session, 1, "prior").id == by_hand.id
        assert len(list_models(session, 1, "prior")) == 3
    trains(3, parent=by_hand.id)
    with database.session() as session:
        assert champion(session, 1, "prior").id not in (first, by_hand.id)


def test_links_that_cannot_be_made_are_told_not_raised(trainer, trains, monkeypatch):
    def refuse(*arguments):
        raise OSError("disk full\nfor good")

    monkeypatch.setattr(trainer_module, "link_champions", refuse)
    _, report = trains(0)
    assert (report.state, report.trouble) == (TaskState.DONE, "OSError: disk full")

"""What the trainer tells MLflow, and what it does when MLflow does not listen."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from nearedge_agents import trainer as trainer_module
from nearedge_agents.champions import campaign_tags
from nearedge_agents.kinds import make_kind
from nearedge_agents.trainer import Trained, Trainer
from nearedge_db.store import create_campaign, get_campaign
from nearedge_services.registry.model_registry import RegisteredModel


@pytest.fixture
def trainer(database, tmp_path):
    return Trainer(database.url, f"sqlite:///{tmp_path / 'mlflow.db'}", "agents", tmp_path)


@pytest.fixture
def recorded(trainer, monkeypatch):
    """Calls of `record_training`; nothing is stored."""
    calls = []

    def record_training(*arguments, **keywords):
        calls.append(keywords)
        return RegisteredModel("run", "nearedge-prior", 1)

    monkeypatch.setattr(trainer, "_registry", lambda: SimpleNamespace(record_training=record_training))
    return calls


def task(**payload):
    given = {"seed": 3, "dataset_hash": "d" * 64, "campaign": "agents", "parent_model_id": None}
    return SimpleNamespace(campaign_id=1, payload={**given, **payload})


def test_all_settings_of_a_training_are_recorded_with_the_sizes_of_its_data(trainer, recorded, tmp_path):
    kind = make_kind("prior")
    trained = Trained(tmp_path, {"steps": 5}, {"denoising_loss": 0.5}, better=True)
    trainer._record(kind, task(), trained, {"n_train": 20, "n_held_out": 4})
    parameters = recorded[0]["parameters"]
    assert set(parameters) == {*kind.settings.model_fields, "seed", "n_train", "n_held_out"}
    assert (parameters["steps"], parameters["seed"], parameters["n_train"]) == (5, 3, 20)
    assert parameters["n_layers"] == kind.settings().n_layers


def test_a_model_that_was_not_trained_here_has_no_settings_of_a_training(trainer, recorded, tmp_path):
    trained = Trained(tmp_path, {"n_layers": 2}, {"denoising_loss": 0.5}, better=True)
    given = task(start={"start": "shipped", "weights": "sha256:0"})
    trainer._record(make_kind("prior"), given, trained, {"n_train": 0, "n_held_out": 4})
    assert set(recorded[0]["parameters"]) == {"n_layers", "seed", "n_train", "n_held_out"}


def test_runs_carry_the_one_campaign_they_belong_to(trainer, recorded, tmp_path, database):
    trained = Trained(tmp_path, {}, {"denoising_loss": 0.5}, better=True)
    trainer._record(make_kind("prior"), task(), trained, {})
    tags = campaign_tags(database, 1)
    assert recorded[0]["tags"] == {"campaign": "agents", "parent_model": "None", **tags}
    with database.begin() as session:
        other = create_campaign(session, "other", {}, seed=0, absorber="C")
        get_campaign(session, 1).name, other.name = "before", "agents"  # the same name, later
    assert set(campaign_tags(database, other.id).values()).isdisjoint(tags.values())


@pytest.mark.parametrize("error", [MlflowException("the server is gone\nfor good"), OSError("disk full")])
def test_mlflow_that_does_not_take_a_champion_is_told_not_raised(trainer, monkeypatch, error):
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(trainer_module, "show_champions", refuse)
    told = trainer.settled(task())
    assert told is not None
    assert "\n" not in told
    assert type(error).__name__ in told
    monkeypatch.setattr(trainer_module, "show_champions", lambda *arguments: None)
    assert trainer.settled(task()) is None

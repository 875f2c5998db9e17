"""``nearedge models``."""

import socket

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from nearedge.champions import models_of
from nearedge.cli.models import _metrics, app
from nearedge.rundir import RunDir
from nearedge_agents.tracking import enter_tracking
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.store import add_model, create_campaign, promote
from nearedge_services.registry import ModelRegistry


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def write_model(folder):
    """The files of a model that nobody will load; their folder."""
    folder.mkdir(parents=True)
    save_file({"weight": np.zeros(3, dtype=np.float32)}, folder / "weights.safetensors")
    (folder / "config.json").write_text('{"elements": ["C"]}')
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = write_model(folder / "model")
    registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}", "test")
    for k in range(2):
        registry.record_training("prior", model, {}, {"denoising_loss": 0.5 - 0.1 * k}, f"hash{k}")
    registry.promote("prior", 1)
    return folder


def test_promote_list_and_roll_back(run_dir):
    assert "prior version 2 is the champion" in run("promote", "prior", 2, "--dir", run_dir).output
    listed = run("list", "--dir", run_dir).output
    assert "denoising_loss" in listed
    assert "0.4" in listed
    assert "prior version 1 is the champion again" in run("rollback", "prior", "--dir", run_dir).output
    uri = f"sqlite:///{run_dir / 'mlflow.db'}"
    assert ModelRegistry(uri, "").champion("prior") == 1
    assert "no models" in run("list", "potential", "--tracking-uri", uri).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["promote", "prior", "9"], "no such version"),
        (["promote", "oracle", "1"], "no such kind"),
        (["rollback", "surrogate"], "no earlier champion"),
        (["list", "oracle"], "no such kind"),
    ],
)
def test_clear_errors(run_dir, arguments, says):
    with pytest.raises(UserError, match=says):
        run(*arguments, "--dir", run_dir)


def test_the_deciding_metric_comes_first():
    metrics = {"bias": 1, "cell_mean_rmse": 0.25, "a": 2, "coverage_90": 3}
    assert _metrics("surrogate", metrics) == "cell_mean_rmse 0.25, a 2, bias 1"


@pytest.mark.parametrize("uri", ["foo", "bad://me:secret@host"])
def test_a_store_that_does_not_exist_is_the_users_error(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="registry cannot be used") as caught:
        run("list", "--tracking-uri", uri)
    assert "\n" not in str(caught.value)
    assert "me:***@host" in str(caught.value) or uri == "foo"
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_answer_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(UserError, match="MLflow server does not answer"):
            run("list", "--tracking-uri", f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_folder_without_a_registry(tmp_path):
    with pytest.raises(UserError, match="no model registry"):
        run("list", "--dir", tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="neither"):
        run("list")
    with pytest.raises(UserError, match="both"):
        run("list", "--dir", tmp_path, "--tracking-uri", "sqlite:///x.db")


def campaign(folder, mlflow=None, models=3):
    """A run directory whose campaign has trained priors, the last of them champion, and MLflow none of them."""
    folder.mkdir(exist_ok=True)
    database = Database.open(url_of_run(folder))
    moment = "2026-01-02T03:04:05+00:00"
    with database.begin() as session:
        campaign_id = create_campaign(session, "mine", {}, seed=0, absorber="C").id
        for number in range(models):
            write_model(folder / "models" / "prior" / f"{number:03d}")
            model = add_model(
                session, campaign_id, "prior", dataset_hash="d" * 64, n_train=1, n_held_out=1, seed=0,
                metrics={"denoising_loss": 0.5 - 0.1 * number}, folder=f"models/prior/{number:03d}",
            )  # fmt: skip
            record = {"parameters": {}, "tags": {}, "content": f"content-{number}"}
            enter_tracking(session, model, {**record, "started_at": moment, "finished_at": moment})
            promote(session, model.id)
    database.dispose()
    RunDir(folder).write("mine", mlflow=mlflow)
    return folder


def champions(folder):
    return [row.registered_version for row in models_of(RunDir(folder)) if row.champion]


def test_the_models_of_a_campaign_from_sync_to_rollback(tmp_path, monkeypatch):
    folder = campaign(tmp_path / "run")
    assert "sent: 3; MLflow does not have yet: 0" in run("sync", "--dir", folder).output
    assert "sent: 0" in run("sync", "mine", "--dir", folder).output
    registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}", "mine")
    assert registry.champion("prior") == 3

    assert "prior version 1 is the champion\n" in run("promote", "prior", 1, "--dir", folder).output
    assert (champions(folder), registry.champion("prior")) == ([1], 1)
    assert (folder / "models" / "champion" / "prior").resolve().name == "000"
    assert "prior version 3 is the champion again" in run("rollback", "prior", "--dir", folder).output
    assert "prior version 2 is the champion again" in run("rollback", "prior", "--dir", folder).output
    assert (champions(folder), registry.champion("prior")) == ([2], 2)
    assert (folder / "models" / "champion" / "prior").resolve().name == "001"
    with pytest.raises(UserError, match="no earlier champion of the prior to go back to; got version 2"):
        run("rollback", "prior", "--dir", folder)
    with pytest.raises(UserError, match=r"no such version of the prior.*got 9; choose from: 1, 2, 3$"):
        run("promote", "prior", 9, "--dir", folder)
    with pytest.raises(UserError, match="no champion"):
        run("rollback", "surrogate", "--dir", folder)
    with pytest.raises(UserError, match="no such kind"):
        run("promote", "oracle", 1, "--dir", folder)

    monkeypatch.setenv("COLUMNS", "200")
    listed = run("list", "--dir", folder).output
    assert listed.count("denoising_loss") == 3
    assert listed.count("yes") == 1
    assert models_of(RunDir(folder))[0].mlflow_run_id[:8] in listed
    assert "no models" in run("list", "potential", "--dir", folder).output


def test_a_server_that_is_down_does_not_keep_anybody_from_choosing(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        folder = campaign(tmp_path / "run", mlflow=f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert run("list", "--dir", folder).output.count("not sent yet") == 3
        answer = run("rollback", "prior", "--dir", folder).output
        synced = run("sync", "--dir", folder)
    assert "prior model 2, which MLflow does not have yet, is the champion again" in answer
    assert "MLflow will be told by the next run, or by `nearedge models sync`" in answer
    assert "Connection refused" in answer
    assert [row.sequence for row in models_of(RunDir(folder)) if row.champion] == [1]
    assert synced.exit_code == 1
    assert "sent: 0; MLflow does not have yet: 3" in synced.output
    with pytest.raises(UserError, match=r"choose from: none \(3 not in MLflow yet: `nearedge models sync`\)"):
        run("promote", "prior", 1, "--dir", folder)


def test_whose_trainings_are_to_be_sent_must_be_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="not named"):
        run("sync")
    with pytest.raises(UserError, match="no campaign here"):
        run("sync", "nobody")
    with pytest.raises(UserError, match="no such campaign in this database; got another"):
        run("sync", "another", "--dir", campaign(tmp_path / "run", models=0))

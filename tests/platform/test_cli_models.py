"""``nearedge models``."""

import socket
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from nearedge.cli.models import _metrics, app
from nearedge_db.errors import UserError
from nearedge_services.registry import ModelRegistry


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    import numpy as np

    folder = tmp_path_factory.mktemp("run")
    model = folder / "model"
    model.mkdir()
    save_file({"weight": np.zeros(3, dtype=np.float32)}, model / "weights.safetensors")
    (model / "config.json").write_text("{}")
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
    version = SimpleNamespace(
        kind="surrogate", metrics={"bias": 1, "cell_mean_rmse": 0.25, "a": 2, "coverage_90": 3}
    )
    assert _metrics(version) == "cell_mean_rmse 0.25, a 2, bias 1"


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

"""A whole campaign whose MLflow server dies under it: it goes on, and loses nothing of what MLflow is to know."""

import os
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from tests.e2e.tiny import SETTINGS, command, environment, nearedge, rows, status, write_campaign
from tests.mlflow_server import Server


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "server")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def start(folder):
    """The campaign in a session of its own."""
    return subprocess.Popen(
        command("run", "tiny.yaml"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_ray(folder, deadline_s=240):
    """Until the campaign has passed its checks: a new one is refused where MLflow does not answer."""
    deadline = time.monotonic() + deadline_s
    while not (folder / "runs" / "tiny" / "campaign.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_a_server_that_is_killed_stops_nothing_and_loses_nothing(server, tmp_path):
    write_campaign(tmp_path, mlflow=server.url)
    campaign = start(tmp_path)
    try:
        wait_for_ray(tmp_path)
        server.kill()
        output, _ = campaign.communicate(timeout=500)
    finally:
        if campaign.poll() is None:
            os.killpg(campaign.pid, signal.SIGKILL)
    assert campaign.returncode == 0, output[-3000:]
    assert "trainings that MLflow does not have yet" in " ".join(output.split())
    told = status(tmp_path)
    trained = rows(tmp_path, "SELECT COUNT(*) FROM models")[0][0]
    assert told["state"] == "FINISHED"
    assert told["unsent_trainings"] == trained >= 3
    assert rows(tmp_path, "SELECT COUNT(*) FROM models WHERE mlflow_run_id IS NOT NULL") == [(0,)]
    assert rows(tmp_path, "SELECT COUNT(*) FROM models WHERE champion") == [(3,)]
    assert rows(tmp_path, "SELECT COUNT(*) FROM events WHERE kind = 'tracking delayed'") == [(1,)]
    assert nearedge("models", "sync", "tiny", cwd=tmp_path).returncode == 1

    server.start()
    for _ in range(10):
        synced = nearedge("models", "sync", "tiny", cwd=tmp_path)
        if synced.returncode == 0:
            break
    assert synced.returncode == 0, synced.stdout + synced.stderr
    client = MlflowClient(server.url, server.url)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    models = rows(tmp_path, "SELECT mlflow_run_id, kind, registered_version, champion FROM models")
    assert sorted(run.info.run_id for run in runs) == sorted(run_id for run_id, *_ in models)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run_id, kind, version, champion in models:
        found = client.get_model_version(f"nearedge-{kind}", str(version))
        assert found.run_id == run_id
        assert ("champion" in found.aliases) is bool(champion)
    unnamed = "SELECT COUNT(*) FROM discovered_structures WHERE role <> 'seed' AND (prior_run_id IS NULL"
    columns = (
        "surrogate_run_id",
        "potential_run_id",
        "prior_version",
        "surrogate_version",
        "potential_version",
    )
    assert rows(tmp_path, unnamed + "".join(f" OR {name} IS NULL" for name in columns) + ")") == [(0,)]
    assert status(tmp_path)["unsent_trainings"] == 0
    assert "sent: 0" in nearedge("models", "sync", "tiny", cwd=tmp_path).stdout


FRESH = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/nearedge-surrogate@champion")
assert model.metadata.signature.inputs.input_names()[:3] == ["numbers", "cell", "positions"]
predicted = model.predict(model.input_example)
import ase, nearedge
atoms = ase.Atoms("C2", positions=[[0, 0, 0], [1.4, 0, 0]], cell=[6, 6, 6], pbc=True)
atoms.calc = nearedge.load_calculator(store=sys.argv[1])
print("FOUND", model.metadata.run_id, len(predicted["cell_mean"][0]), atoms.get_forces().shape)
"""


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_is_told_all_while_the_campaign_runs(server, tmp_path):
    """And what it has then is loaded, chosen and put back by others than the campaign."""
    write_campaign(tmp_path, mlflow=server.url, stop={**SETTINGS["stop"], "labels": 1000})
    campaign = start(tmp_path)
    try:
        wait_for_ray(tmp_path)
        wait_for(tmp_path, "SELECT COUNT(*) FROM models WHERE mlflow_run_id IS NOT NULL")
        server.kill()
        wait_for(tmp_path, "SELECT COUNT(*) FROM events WHERE kind = 'tracking delayed'")
        wait_for(tmp_path, "SELECT COUNT(*) FROM label_uses WHERE role = 'guided'")
        server.start()
        wait_for(tmp_path, "SELECT COUNT(*) FROM events WHERE kind = 'tracking goes on'")
        assert nearedge("stop", "tiny", cwd=tmp_path).returncode == 0
        output, _ = campaign.communicate(timeout=500)
    finally:
        if campaign.poll() is None:
            os.killpg(campaign.pid, signal.SIGKILL)
    assert campaign.returncode == 130, output[-3000:]
    told = status(tmp_path)
    assert (told["state"], told["unsent_trainings"]) == ("STOPPED", 0)
    assert rows(tmp_path, "SELECT COUNT(*) FROM label_uses WHERE role = 'guided'") > [(1,)]
    client = MlflowClient(server.url, server.url)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    models = rows(tmp_path, "SELECT mlflow_run_id FROM models")
    assert len(models) > 3
    assert sorted((run.info.run_id,) for run in runs) == sorted(models)

    champion = "SELECT mlflow_run_id, registered_version FROM models WHERE champion AND kind = 'surrogate'"
    ((run_id, version),) = rows(tmp_path, champion)
    assert fresh_process(server.url).startswith(f"FOUND {run_id} ")
    other = next(
        number
        for (number,) in rows(tmp_path, "SELECT registered_version FROM models WHERE kind = 'surrogate'")
        if number != version
    )
    for arguments, chosen in (
        (("promote", "surrogate", str(other)), other),
        (("rollback", "surrogate"), version),
    ):
        result = nearedge("models", *arguments, "--dir", "runs/tiny", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert client.get_model_version_by_alias("nearedge-surrogate", "champion").version == str(chosen)
        ((run_id, now),) = rows(tmp_path, champion)
        assert now == chosen
        assert fresh_process(server.url).startswith(f"FOUND {run_id} ")


def wait_for(folder, query, deadline_s=240):
    """Until it counts something."""
    deadline = time.monotonic() + deadline_s
    while rows(folder, query) == [(0,)]:
        assert time.monotonic() < deadline, query
        time.sleep(0.2)


def fresh_process(uri: str) -> str:
    """What a program finds that knows nothing but the address of the store."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH, uri],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=200,
    )
    return done.stdout[done.stdout.index("FOUND") :]

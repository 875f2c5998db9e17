"""A real MLflow server as the remote store: used, killed in the middle, started again, made to hang."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ase.build import bulk
from mlflow import MlflowClient
from tests.agents.trained_models import train
from tests.mlflow_server import Server

import nearedge
from nearedge_agents.champions import campaign_tags
from nearedge_agents.tracking import PATIENCE_S, Patiently, Sender, TrackingReport
from nearedge_db.database import Database
from nearedge_db.store import get_model, list_models
from nearedge_services.registry import ModelRegistry, recording

LOAD = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/nearedge-surrogate@champion")
assert model.metadata.signature is not None
table = model.predict(model.input_example)
print("RESULT", model.metadata.run_id, len(table["cell_mean"][0]), len(table["energies_ev"][0]))
"""


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "server")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def assert_every_run_once(database, server):
    client = MlflowClient(server.url, server.url)
    experiment = client.get_experiment_by_name("agents").experiment_id
    runs = client.search_runs([experiment])
    with database.session() as session:
        rows = list_models(session, 1)
    assert sorted(run.info.run_id for run in runs) == sorted(row.mlflow_run_id for row in rows)
    assert {run.info.status for run in runs} == {"FINISHED"}
    (tag,) = campaign_tags(database, 1).items()
    assert {run.data.tags[tag[0]] for run in runs} == {tag[1]}
    for row in rows:
        found = client.search_model_versions(f"run_id = '{row.mlflow_run_id}'")
        assert [int(version.version) for version in found] == [row.registered_version]


@dataclass
class Campaign:
    """What trains models and sends them to the server."""

    database: Database
    server: Server
    run_dir: Path

    def train(self, kind="surrogate"):
        return train(self.database, self.run_dir, kind)

    def send(self, **options):
        return Sender(self.database, 1, self.server.url, "agents", self.run_dir).send(**options)

    def send_all(self):
        """As often as it takes: on a busy machine the server may not answer in time."""
        for _ in range(20):
            report = self.send(opening=True)
            if report == TrackingReport(sent=report.sent):
                return
            time.sleep(3.0)
        pytest.fail(f"the server takes nothing: {report}")

    def send_in_vain(self):
        """What the trainer does; the server does not take anything, and nobody waits long for that."""
        started = time.monotonic()
        report = Patiently().run(self.send)
        assert time.monotonic() - started < PATIENCE_S + 5
        assert (report.sent, report.unsent) == (0, 1)
        assert report.trouble

    def row(self, model_id):
        with self.database.session() as session:
            return get_model(session, model_id)


def load_in_a_fresh_process(campaign, model_id):
    output = subprocess.run(
        [sys.executable, "-c", LOAD, campaign.server.url],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout
    assert output.split() == ["RESULT", campaign.row(model_id).mlflow_run_id, "121", "121"]


def be_killed_before_the_artifacts(campaign, monkeypatch):
    """The run is made, its model is not there."""
    pack = recording.save_pyfunc

    def killed_meanwhile(*arguments):
        campaign.server.kill()
        return pack(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(recording, "save_pyfunc", killed_meanwhile)
        campaign.send_in_vain()


def hang_while_a_run_is_made(campaign, monkeypatch):
    """The server carries the request out when nobody waits for it any more."""
    make = MlflowClient.create_run

    def hanging(self, *arguments, **keywords):
        campaign.server.signal(signal.SIGSTOP)
        return make(self, *arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "create_run", hanging)
        campaign.send_in_vain()
    campaign.server.signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_remote_server_that_is_used_killed_and_made_to_hang(database, server, tmp_path, monkeypatch):
    campaign = Campaign(database, server, tmp_path)
    first, _ = campaign.train(), campaign.train("potential")
    campaign.send_all()
    assert_every_run_once(database, server)
    load_in_a_fresh_process(campaign, first)
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.calc = nearedge.load_calculator("models:/nearedge-potential@champion", server.url)
    assert atoms.get_forces().shape == (8, 3)

    second = campaign.train()
    be_killed_before_the_artifacts(campaign, monkeypatch)
    assert campaign.row(second).mlflow_run_id is None
    third = campaign.train()
    assert campaign.send().unsent == 2
    server.start()
    campaign.send_all()
    assert_every_run_once(database, server)
    registry = ModelRegistry(server.url, "agents")
    assert registry.champion("surrogate") == campaign.row(third).registered_version
    registry.promote("surrogate", campaign.row(first).registered_version)
    assert registry.rollback("surrogate") == campaign.row(third).registered_version

    fourth = campaign.train()
    hang_while_a_run_is_made(campaign, monkeypatch)
    campaign.send_all()
    campaign.send_all()
    assert_every_run_once(database, server)
    assert campaign.row(fourth).registered_version == 4

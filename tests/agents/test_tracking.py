"""Trainings reach MLflow once each, whatever happens on the way."""

import shutil
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tests.agents.trained_models import METRICS, train

from nearedge_agents.champions import campaign_tags
from nearedge_agents.tracking import PATIENCE_S, Patiently, Sender, TrackingReport
from nearedge_db.ledger import Ledger
from nearedge_db.schema import TaskRow
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import count_unsent, get_model, promote
from nearedge_services.registry import ModelRegistry
from nearedge_services.registry.recording import CONTENT_TAG


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """URI of a local store, shared: making one takes seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    ModelRegistry(uri, "agents").open()
    return uri


@pytest.fixture
def sender(database, store, tmp_path):
    return Sender(database, 1, store, "agents", tmp_path)


def runs_of(database, store):
    """The campaign's runs that are not deleted."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("agents").experiment_id
    (tag,) = campaign_tags(database, 1).items()
    return client.search_runs([experiment], f"tags.`{tag[0]}` = '{tag[1]}'")


def versions_of(store, run_id):
    return [int(found.version) for found in MlflowClient(store).search_model_versions(f"run_id = '{run_id}'")]


def row_of(database, model_id):
    with database.session() as session:
        return get_model(session, model_id)


def unsent(database):
    with database.session() as session:
        return count_unsent(session, 1)


def assert_sent_once(database, store, *model_ids):
    """One finished run with one version for every model, and the row says which."""
    runs = {run.info.run_id: run for run in runs_of(database, store)}
    rows = [row_of(database, model_id) for model_id in model_ids]
    assert sorted(runs) == sorted(row.mlflow_run_id for row in rows)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for row in rows:
        assert versions_of(store, row.mlflow_run_id) == [row.registered_version]
        history = MlflowClient(store).get_metric_history(row.mlflow_run_id, "cell_mean_rmse")
        assert [point.value for point in history] == [0.25]
    assert unsent(database) == 0


def test_a_training_is_sent_with_all_that_was_kept_of_it(database, store, sender, tmp_path):
    model_id = train(database, tmp_path)
    assert sender.send(opening=True) == TrackingReport(sent=1)
    row, (run,) = row_of(database, model_id), runs_of(database, store)
    assert (row.mlflow_run_id, row.registered_name) == (run.info.run_id, "nearedge-surrogate")
    assert run.data.params == {"steps": "7", "seed": "3"}
    assert run.data.metrics == METRICS
    assert run.data.tags["nearedge.dataset_hash"] == "d" * 64
    assert run.info.end_time - run.info.start_time == 60_000
    assert ModelRegistry(store, "agents").champion("surrogate") == row.registered_version
    assert sender.send() == TrackingReport()
    assert_sent_once(database, store, model_id)


class InTrouble(BaseHTTPRequestHandler):
    """Answers every request with 500."""

    def do_GET(self):
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the base class names it so

    def log_message(self, *arguments):
        pass


@contextmanager
def refusing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def hanging():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@contextmanager
def failing():
    server = HTTPServer(("127.0.0.1", 0), InTrouble)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("down", "says"), [(refusing, "Connection refused"), (hanging, "timed out"), (failing, "500")]
)
def test_nothing_is_lost_while_mlflow_is_down(database, store, sender, tmp_path, down, says):
    models = [train(database, tmp_path), train(database, tmp_path)]
    with down() as port:
        started = time.monotonic()
        report = Sender(database, 1, f"http://127.0.0.1:{port}", "agents", tmp_path).send(opening=True)
        assert time.monotonic() - started < PATIENCE_S
    assert (report.sent, report.unsent, unsent(database)) == (0, 2, 2)
    assert says in report.trouble
    assert row_of(database, models[0]).mlflow_run_id is None
    assert sender.send() == TrackingReport(sent=2)
    assert_sent_once(database, store, *models)


CUTS = [
    *((step, True) for step in ("create_run", "log_batch", "create_model_version", "set_terminated")),
    *((step, False) for step in ("log_inputs", "log_artifacts", "create_model_version")),
]


@pytest.mark.parametrize(("step", "carried_out"), CUTS)
def test_a_recording_cut_short_anywhere_is_completed(
    database, store, sender, tmp_path, monkeypatch, step, carried_out
):
    """``after``: the server did it, and the answer was lost."""
    model_id = train(database, tmp_path)
    real = getattr(MlflowClient, step)

    def fail(self, *arguments, **keywords):
        if carried_out:
            real(self, *arguments, **keywords)
        raise MlflowException("the server is gone\nfor good")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, step, fail)
        report = sender.send()
    assert (report.sent, report.unsent) == (0, 1)
    assert report.trouble == "MlflowException: the server is gone"
    assert Sender(database, 1, store, "agents", tmp_path).send() == TrackingReport(sent=1)
    assert_sent_once(database, store, model_id)


def test_a_second_run_of_a_request_that_was_carried_out_late_is_deleted(database, store, sender, tmp_path):
    model_id = train(database, tmp_path)
    sender.send()
    row = row_of(database, model_id)
    client = MlflowClient(store)
    first = client.get_run(row.mlflow_run_id)
    tags = {CONTENT_TAG: first.data.tags[CONTENT_TAG], **campaign_tags(database, 1)}
    client.create_run(first.info.experiment_id, start_time=1, tags=tags)
    assert len(runs_of(database, store)) == 2
    assert sender.send(opening=True) == TrackingReport()
    assert_sent_once(database, store, model_id)


def test_two_senders_do_not_send_the_same(database, store, sender, tmp_path):
    model_id = train(database, tmp_path)
    ledger = Ledger(database)
    (task,) = ledger.open_tasks(1, TaskKind.TRACK)
    assert ledger.lease("another", task_id=task.id) is not None
    assert sender.send() == TrackingReport(unsent=1)
    assert runs_of(database, store) == []
    ledger.release("another")
    assert sender.send() == TrackingReport(sent=1)
    assert_sent_once(database, store, model_id)


def test_a_model_that_cannot_be_recorded_does_not_hold_up_the_others(database, store, sender, tmp_path):
    broken, whole = train(database, tmp_path), train(database, tmp_path)
    foreign = tmp_path / row_of(database, broken).folder / "state.pkl"
    foreign.write_bytes(b"x")
    report = sender.send()
    assert (report.sent, report.unsent) == (1, 1)
    assert "state.pkl" in report.trouble
    assert row_of(database, whole).mlflow_run_id is not None
    with database.session() as session:
        states = {row.state for row in session.query(TaskRow).filter_by(kind="track")}
    assert states == {TaskState.DONE, TaskState.QUARANTINED}
    foreign.unlink()
    again = Sender(database, 1, store, "agents", tmp_path)
    assert again.send(opening=True) == TrackingReport(sent=1)
    assert_sent_once(database, store, broken, whole)


def test_a_champion_of_another_store_is_not_shown_in_this_one(database, store, sender, tmp_path):
    """The settings name a new store: the same version there is another model."""
    first, second = train(database, tmp_path), train(database, tmp_path, crowned=False)
    sender.send()
    with database.begin() as session:
        get_model(session, second).mlflow_run_id = "of-another-store"
        promote(session, second)
    report = sender.send()
    assert "does not have the champion of the surrogate" in report.trouble
    version = row_of(database, first).registered_version
    assert ModelRegistry(store, "agents").champion("surrogate") == version


def test_files_that_are_gone_are_told_and_kept_waiting(database, sender, tmp_path):
    model_id = train(database, tmp_path)
    shutil.rmtree(tmp_path / row_of(database, model_id).folder)
    report = sender.send()
    assert (report.sent, report.unsent) == (0, 1)
    assert "no model in this folder" in report.trouble


def test_nobody_waits_longer_than_asked_for_a_store_that_hangs():
    patiently, release = Patiently(), threading.Event()

    def hang():
        release.wait(30)
        return TrackingReport(sent=1)

    started = time.monotonic()
    for _ in range(2):
        assert patiently.run(hang, seconds=0.05).trouble == "MLflow has not answered within 0.05 s"
    assert time.monotonic() - started < 5
    release.set()
    patiently._thread.join(5)
    assert patiently.run(lambda: TrackingReport(sent=2), seconds=5) == TrackingReport(sent=2)
    with pytest.raises(ZeroDivisionError):
        patiently.run(lambda: 1 / 0, seconds=5)

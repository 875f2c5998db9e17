"""What is refused on a cluster of several machines, with a stand-in for Ray: there is one machine here."""

import socket
from types import SimpleNamespace

import pytest
from ray.exceptions import GetTimeoutError, RayTaskError
from tests.platform.campaign_files import write_config

from nearedge import raynodes
from nearedge.config import load_config
from nearedge_db.errors import UserError

SERVERS = {"database": "postgresql+psycopg://me@host/name", "mlflow": "http://host:5000"}
OTHER = {"NodeManagerHostname": "other", "NodeID": "ab" * 28, "Alive": True}
HERE = {"NodeManagerHostname": socket.gethostname(), "NodeID": "cd" * 28, "Alive": True}


class FakeRay:
    """Runs the function in its stead, or raises what a node would answer with."""

    def __init__(self, nodes, error=None, seen=None):
        self.nodes = lambda: nodes
        self.error, self.seen, self.asked = error, seen, 0

    def remote(self, **options):
        def run(path):
            self.asked += 1
            return path

        handle = SimpleNamespace(remote=run)
        return lambda function: SimpleNamespace(options=lambda **more: handle, function=function)

    def get(self, path, timeout):
        if self.error is not None:
            raise self.error
        return raynodes.sees(path) if self.seen is None else self.seen


@pytest.fixture
def config(tmp_path):
    (tmp_path / "run").mkdir()

    def make(**sections):
        return load_config(write_config(tmp_path, **sections))

    return make


def checked(monkeypatch, config, *nodes, **answers):
    fake = FakeRay(list(nodes), **answers)
    monkeypatch.setattr(raynodes, "ray", fake)
    raynodes.check_nodes(config)
    assert list(config.run_dir.iterdir()) == []
    return fake


def test_one_machine_needs_no_servers(monkeypatch, config):
    gone = {**OTHER, "Alive": False}
    assert checked(monkeypatch, config(), HERE, HERE, gone).asked == 0


def test_nodes_that_see_the_run_directory_are_fine(monkeypatch, config):
    assert checked(monkeypatch, config(**SERVERS), HERE, OTHER).asked == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("database", None),
        ("database", "sqlite:////shared/a.db"),
        ("mlflow", None),
        ("mlflow", "sqlite:///m.db"),
    ],
)
def test_files_are_no_servers(monkeypatch, config, key, value):
    with pytest.raises(
        UserError, match=rf"nodes on 1 other machines, and `{key}` is a local file.*NEAREDGE_"
    ):
        checked(monkeypatch, config(**{**SERVERS, key: value}), HERE, OTHER)


def test_a_run_directory_that_a_node_does_not_see(monkeypatch, config):
    with pytest.raises(UserError, match="node other of the Ray cluster does not see the run directory"):
        checked(monkeypatch, config(**SERVERS), OTHER, seen=False)


def test_a_node_without_the_program(monkeypatch, config):
    error = RayTaskError("sees", "No module named 'nearedge'", ModuleNotFoundError("nearedge"))
    with pytest.raises(UserError, match="node other of the Ray cluster cannot do the campaign's work"):
        checked(monkeypatch, config(**SERVERS), OTHER, error=error)


def test_a_node_that_does_not_answer_stops_nobody(monkeypatch, config):
    checked(monkeypatch, config(**SERVERS), OTHER, error=GetTimeoutError("late"))

"""``deploy/local``: what it says where nothing runs, and that it ends nothing that it did not start.

The cluster itself is tested in ``tests/e2e/test_ray_job.py``.
"""

import importlib.util
import os
import subprocess
import sys

import psutil
import pytest
from tests.deploy.clusters import CLUSTER, cluster


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("nearedge_local_cluster", CLUSTER)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # its dataclasses look themselves up
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules[spec.name]


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("command", ["env", "status", "down"])
def test_where_nothing_runs_it_says_so(tmp_path, command):
    result = cluster(command, tmp_path)
    assert result.returncode == 1
    assert "error: nothing runs here" in result.stderr


def test_what_it_started_it_stops(module, sleeper, tmp_path):
    state = module.Cluster(str(tmp_path), str(tmp_path / "temp"))
    state.remember("mlflow", sleeper.pid)
    assert (tmp_path / "cluster.json").stat().st_mode & 0o077 == 0
    module.stop(module.Cluster.load(tmp_path))
    sleeper.wait(timeout=5)
    assert module.Cluster.load(tmp_path) is None


def test_another_process_with_the_same_number_is_left_alone(module, sleeper, tmp_path):
    birth = psutil.Process(sleeper.pid).create_time()
    other = module.Process("ray-head", sleeper.pid, birth - 1.0)
    assert other.find() is None
    module.stop(module.Cluster(str(tmp_path), str(tmp_path / "temp"), processes=[other]))
    assert sleeper.poll() is None


def test_a_cluster_that_runs_is_not_started_twice(module, tmp_path):
    module.Cluster(str(tmp_path), str(tmp_path / "temp")).remember("mlflow", os.getpid())
    result = cluster("up", tmp_path)
    assert result.returncode == 1
    assert "error: it runs already" in result.stderr


def test_the_token_is_new_and_its_owners_alone(module, tmp_path):
    first = module.write_token(tmp_path / "token").read_text()
    second = module.write_token(tmp_path / "token").read_text()
    assert first != second
    assert len(second) == 64
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600

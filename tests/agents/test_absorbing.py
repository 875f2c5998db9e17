"""Absorbers of one label on a Ray of two nodes: spread over both, and gone with their labeler."""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
from ase.build import bulk
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tests.nodes import join
from tests.programs import needs

from nearedge_agents.absorbing import cluster_of_this_actor
from nearedge_agents.labeler import Labeler
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Ledger
from nearedge_db.schema import OracleSettings
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import get_label, put_atoms
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.elsewhere import helped_by
from nearedge_services.oracles.external import Session
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.per_absorber import Finished, RunSettings

# The workers cannot import test modules: the actor's class travels with its code.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.slow

STRUCTURE = bulk("C", "diamond", 3.567, cubic=True)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each; the first is where labelers are put."""
    cluster = Cluster()
    home = join(cluster, num_cpus=1, include_dashboard=False)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", namespace="absorbing")
    yield cluster, home
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def other(cluster):
    """The other node, for one test."""
    node = join(cluster[0], num_cpus=1, include_dashboard=False)
    yield node
    if node in cluster[0].list_all_nodes():
        cluster[0].remove_node(node, allow_graceful=False)


def at_home(actor_class, home):
    """Options that put an actor on the first node, where it takes the only CPU."""
    place = NodeAffinitySchedulingStrategy(home.node_id, soft=False)
    return ray.remote(actor_class).options(num_cpus=1, scheduling_strategy=place)


def where(seconds: float, absorber: int):
    """A row that says where it was calculated."""
    time.sleep(seconds)
    return {"node": np.frombuffer(ray.get_runtime_context().get_node_id().encode(), np.uint8).astype(float)}


def with_program(folder: Path, absorber: int):
    """Runs a program until it is killed; leaves its node, its number and its scratch folder."""
    with Session("absorber") as session:
        told = f"{ray.get_runtime_context().get_node_id()} $$ {session.folder}"
        session.run(
            [
                "sh",
                "-c",
                f"echo {told} > {folder}/.{absorber}; mv {folder}/.{absorber} {folder}/{absorber}; sleep 600",
            ]
        )
    raise AssertionError("it ended by itself")


def once_with_program(folder: Path, absorber: int):
    """Absorber 1 runs a program the first time, which does not end; absorber 0 takes until that has begun."""
    if absorber and not (folder / "1").exists():
        with_program(folder, absorber)
    while not (folder / "1").exists():
        time.sleep(0.1)
    return where(0.1, absorber)


class Caller:
    """What a labeler does, with a calculation of the test's."""

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def nodes(self, compute, absorbers: int, folder: Path) -> list[str]:
        """Where each was calculated."""
        with helped_by(cluster_of_this_actor()):
            rows = each_absorber(
                range(absorbers), compute, Finished(STRUCTURE, "ab" * 32, folder), RunSettings()
            )
        return [rows[one]["node"].astype(np.uint8).tobytes().decode() for one in range(absorbers)]


def wait_until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def test_without_room_elsewhere_all_is_calculated_by_the_labeler(cluster, tmp_path):
    """It holds the only CPU there is."""
    caller = at_home(Caller, cluster[1]).remote()
    nodes = ray.get(caller.nodes.remote(partial(where, 0.1), 5, tmp_path), timeout=120)
    assert set(nodes) == {cluster[1].node_id}
    ray.kill(caller)


def test_absorbers_of_one_feff_label_are_calculated_on_both_nodes(cluster, other, database, tmp_path):
    needs("feff10")
    settings = {"l_max": 1, "r_scf_a": 2.6, "r_fms_a": 3.6}
    oracle = make_oracle("feff", settings)
    atoms = STRUCTURE.copy()
    atoms.rattle(0.02, seed=0)
    with database.begin() as session:
        session.add(OracleSettings(settings_hash=oracle.settings_hash, oracle="feff", settings_json=settings))
        structure = put_atoms(session, atoms)
    identity = task_identity(TaskKind.LABEL, structure.hash, oracle.settings_hash)
    named = {"structure_id": structure.id, "settings_hash": oracle.settings_hash}
    task = Ledger(database).submit(TaskKind.LABEL, identity, {}, campaign_id=1, **named)
    labeler = at_home(Labeler, cluster[1]).remote(database.url, "feff", settings)
    ray.get(labeler.begin.remote("absorbing", "labeler", tmp_path), timeout=120)
    outcome = ray.get(labeler.perform.remote("work", task.id), timeout=600)
    ray.kill(labeler)
    assert outcome.value.state is TaskState.DONE, outcome.value.error
    said = [json.loads(line) for log in tmp_path.glob("*.jsonl") for line in log.read_text().splitlines()]
    by_node = [line["data"]["by_node"] for line in said if line["message"] == "absorbers elsewhere"]
    assert [list(one) for one in by_node] == [[other.node_id]]
    assert 1 <= by_node[0][other.node_id] <= 7, "and the others by the labeler"
    with database.session() as session:
        label = get_label(session, structure.id, oracle.settings_hash)
    assert (label.xanes.sum(axis=1) > 0).all()


def test_programs_elsewhere_end_with_a_labeler_that_is_killed(cluster, other, tmp_path):
    caller = at_home(Caller, cluster[1]).remote()
    pid = caller.pid.remote()
    ref = caller.nodes.remote(partial(with_program, tmp_path), 2, tmp_path / "kept")
    wait_until(lambda: all((tmp_path / str(one)).exists() for one in range(2)))
    told = [(tmp_path / str(one)).read_text().split() for one in range(2)]
    assert {node for node, _, _ in told} == {cluster[1].node_id, other.node_id}
    os.kill(ray.get(pid, timeout=60), signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(ref, timeout=60)
    for _, program, folder in told:
        wait_until(lambda program=program: not psutil.pid_exists(int(program)), 60)
        wait_until(lambda folder=folder: not Path(folder).exists(), 60)


def test_an_absorber_that_is_lost_with_its_node_is_calculated_again(cluster, other, tmp_path):
    caller = at_home(Caller, cluster[1]).remote()
    ref = caller.nodes.remote(partial(once_with_program, tmp_path), 2, tmp_path / "kept")
    # the one here ends, that on the other node does not
    wait_until((tmp_path / "1").exists)
    node, program, folder = (tmp_path / "1").read_text().split()
    assert node == other.node_id
    raylet = other.all_processes["raylet"][0].process
    raylet.kill()
    raylet.wait()  # a zombie would look alive to the node's workers
    assert ray.get(ref, timeout=180) == [cluster[1].node_id] * 2
    wait_until(lambda: not psutil.pid_exists(int(program)), 60)
    wait_until(lambda: not Path(folder).exists(), 60)
    ray.kill(caller)

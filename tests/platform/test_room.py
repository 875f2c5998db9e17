"""What actors ask, against nodes that are made up."""

import pytest
import ray
from tests.platform.campaign_files import write_config

from nearedge.config import PoolConfig, load_config
from nearedge.raycluster import ray_running
from nearedge.room import (
    GIB,
    actor_options,
    asked,
    check_node_sizes,
    custom_resources,
    holds,
    local_cpus,
    warning_about_cpus,
)
from nearedge_db.errors import UserError

SMALL = {"CPU": 2.0, "memory": 4.0 * GIB, "node:10.0.0.1": 1.0}
BIG = {"CPU": 16.0, "memory": 8.0 * GIB}
GPU = {"CPU": 4.0, "GPU": 1.0, "memory": 4.0 * GIB, "oracle": 2.0}


def config(tmp_path, **pools):
    return load_config(write_config(tmp_path, pools=pools))


def refusal(config, *nodes) -> str:
    with pytest.raises(UserError) as caught:
        check_node_sizes(config, nodes, "the Ray cluster")
    return str(caught.value)


def test_what_is_not_reserved_is_not_asked():
    assert asked(PoolConfig(cpus=0)) == {}
    assert asked(PoolConfig(cpus=2, gpus=0.5, memory_gib=1.5, resources={"oracle": 1, "none": 0})) == {
        "CPU": 2,
        "GPU": 0.5,
        "memory": 1.5 * GIB,
        "oracle": 1,
    }


def test_options_say_all_of_it_so_that_ray_adds_no_default():
    assert actor_options(PoolConfig(cpus=0)) == {"num_cpus": 0, "num_gpus": 0, "memory": 0, "resources": {}}


@pytest.mark.parametrize(
    ("asks", "fits"),
    [
        ({}, True),
        ({"CPU": 4}, True),
        ({"CPU": 5}, False),
        ({"GPU": 1, "oracle": 2}, True),
        ({"tpu": 1}, False),
    ],
)
def test_a_node_holds_what_it_has(asks, fits):
    assert holds(GPU, asks) is fits


def test_one_node_must_hold_all_that_an_actor_asks(tmp_path):
    fits = config(tmp_path, labeler={"cpus": 16}, trainer={"gpus": 1, "cpus": 4})
    check_node_sizes(fits, [SMALL, BIG, GPU], "the Ray cluster")
    split = config(tmp_path, labeler={"cpus": 16, "resources": {"oracle": 1}})
    said = refusal(split, SMALL, BIG, GPU)
    assert "no node of the Ray cluster can hold an actor of pools.labeler" in said
    assert "it asks cpus 16, oracle 1; the largest node has cpus" in said


def test_the_refusal_names_the_node_that_comes_nearest(tmp_path):
    asks_memory = config(tmp_path, scorer={"cpus": 1, "memory_gib": 12})
    assert "asks cpus 1, memory_gib 12; the largest node has cpus 16, memory_gib 8" in refusal(
        asks_memory, SMALL, BIG, GPU
    )
    assert "it asks cpus 0.3; the largest node has cpus 0;" in refusal(asks_memory)


def test_custom_resources_of_all_actors(tmp_path):
    asks = config(
        tmp_path,
        labeler={"size": 3, "resources": {"oracle": 0.5, "scratch": 1}},
        trainer={"size": 1, "resources": {"oracle": 2}},
    )
    assert custom_resources(asks) == {"oracle": 3.5, "scratch": 3.0}


def test_a_ray_of_its_own_has_the_custom_resources_and_no_more_gpus_than_the_machine(tmp_path):
    """The labelers, which are looked at before the trainers, find their resource there."""
    pools = {"labeler": {"resources": {"oracle": 1}}, "trainer": {"gpus": 64, "cpus": 0}}
    asks = load_config(write_config(tmp_path, pools=pools, ray={"address": "local", "num_cpus": 2}))
    refused = (
        r"no node of this machine's Ray .* of pools\.trainer; got it asks gpus 64; the largest node has gpus"
    )
    with pytest.raises(UserError, match=refused), ray_running(asks):
        raise AssertionError("it was not refused")
    assert not ray.is_initialized()


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr("nearedge.room.os.cpu_count", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_pools_beyond_the_machine_are_warned_of_in_one_line(tmp_path, two_cores):
    wanted = config(tmp_path, labeler={"size": 1, "cpus": 64})
    said = warning_about_cpus(wanted)
    assert "\n" not in said
    assert "got 66 for 2 (pools: " in said
    assert "labeler 1 × 64" in said
    assert "lower their size or cpus" in said
    assert local_cpus(wanted) == 66, "it runs nevertheless"


def test_a_number_of_cpus_beyond_the_machine_is_warned_of(tmp_path, two_cores):
    said = warning_about_cpus(load_config(write_config(tmp_path, ray={"num_cpus": 3})))
    assert "got 3 for 2" in said
    assert "ray.num_cpus" in said


def test_no_warning_where_all_have_room_or_a_cluster_decides(tmp_path, two_cores):
    assert warning_about_cpus(config(tmp_path)) is None
    wanted = write_config(tmp_path, pools={"labeler": {"cpus": 64}}, ray={"address": "10.0.0.1:6379"})
    assert warning_about_cpus(load_config(wanted)) is None

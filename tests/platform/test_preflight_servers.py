"""Servers that cannot be used are told of in one line, with exit status 2, in seconds and before Ray starts."""

import socket
import time

import pytest
from tests.platform.campaign_files import write_config

from nearedge.config import load_config
from nearedge.preflight import check
from nearedge.rayaddress import check_listens
from nearedge.rundir import RunDir
from nearedge_db.errors import UserError


def test_a_tracking_server_that_does_not_answer(refused, tmp_path):
    """In seconds, not after the minutes of retries of MLflow's client."""
    started = time.monotonic()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        line = refused(write_config(tmp_path, mlflow=uri))
    assert "MLflow server does not answer" in line
    assert "secret" not in line
    assert time.monotonic() - started < 20  # importing MLflow on a busy machine included


def test_a_campaign_goes_on_without_the_server_that_it_was_begun_with(tmp_path):
    """Down is not wrong: what is not MLflow, or no address, is refused there too."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = load_config(
            write_config(tmp_path, mlflow=f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}")
        )
        with pytest.raises(UserError, match="MLflow server does not answer"):
            check(config)
        config.run_dir.mkdir(parents=True)
        RunDir(config.run_dir).write(config.name, mlflow=config.mlflow)
        told = check(config).mlflow_down
    assert "Connection refused" in told
    assert "secret" not in told
    with pytest.raises(UserError, match="MLflow store cannot be used"):
        check(config.model_copy(update={"mlflow": "htp://host"}))


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_ray_cluster_that_does_not_answer(refused, tmp_path, form):
    """In seconds, not after the two minutes that Ray tries."""
    started = time.monotonic()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = form.format(f"127.0.0.1:{taken.getsockname()[1]}")
        line = refused(write_config(tmp_path, ray={"address": address}))
    assert f"no Ray cluster answers at ray.address; got {address} (Connection refused)" in line
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("address", ["head", "host:port", "http://host:6379", ":6379"])
def test_an_address_of_ray_that_is_none(refused, tmp_path, address):
    assert "ray.address is no address" in refused(write_config(tmp_path, ray={"address": address}))


@pytest.mark.parametrize("address", ["auto", "local", "127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_somebody_listens_is_fine(address):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        check_listens(address.format(taken.getsockname()[1]))


@pytest.mark.parametrize("uri", ["htp://host", "sqlite:///{}/target.csv/mlflow.db"])
def test_an_mlflow_store_that_cannot_be(refused, tmp_path, uri):
    assert "MLflow store cannot be used" in refused(write_config(tmp_path, mlflow=uri.format(tmp_path)))


def test_a_ray_without_room_for_an_actor(refused, tmp_path):
    pools = {"labeler": {"size": 1, "cpus": 3}}
    said = refused(write_config(tmp_path, ray={"num_cpus": 2}, pools=pools))
    assert "ray.num_cpus has no room for an actor of pools.labeler; got 2 for 3 CPUs" in said


def test_pools_that_need_more_than_there_is_take_turns(tmp_path):
    pools = {"labeler": {"size": 4, "cpus": 1}}
    assert check(load_config(write_config(tmp_path, ray={"num_cpus": 1}, pools=pools)))

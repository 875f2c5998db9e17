"""The potential as an ASE calculator by one call."""

import subprocess
import sys

import pytest
from ase.build import bulk
from tests.platform.tiny_models import write_models

import nearedge
from nearedge.rundir import RunDir
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_services.registry import ModelRegistry


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory whose MLflow store has a champion."""
    folder = tmp_path_factory.mktemp("run")
    Database.open(url_of_run(folder)).dispose()
    RunDir(folder).write("mine")
    models = write_models(folder / "tiny")
    registry = ModelRegistry(RunDir(folder).mlflow_uri, "mine")
    made = registry.record_training("potential", models / "potential", {}, {}, "d" * 64)
    registry.promote("potential", made.version)
    return folder


@pytest.mark.parametrize("name", [lambda folder: folder, str, lambda folder: RunDir(folder).mlflow_uri])
def test_a_campaign_or_a_store_is_named(run_dir, name):
    atoms = bulk("C", "diamond", 3.57, cubic=True)
    atoms.calc = nearedge.load_calculator("models:/nearedge-potential@champion", name(run_dir))
    assert atoms.get_forces().shape == (8, 3)
    assert nearedge.load_calculator(store=name(run_dir), members=1).members == 1


def test_without_a_store_it_is_the_one_of_mlflow(run_dir):
    code = """
import nearedge
calculator = nearedge.load_calculator("models:/nearedge-potential/1")
print(type(calculator).__name__)
"""
    environment = {"MLFLOW_TRACKING_URI": RunDir(run_dir).mlflow_uri, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    assert done.stdout == "PotentialCalculator\n"


def test_what_is_not_there_is_told(tmp_path, run_dir):
    with pytest.raises(UserError, match="no campaign here"):
        nearedge.load_calculator(store=tmp_path / "none")
    with pytest.raises(UserError, match="no model registry"):
        nearedge.load_calculator(store=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(UserError, match="only a potential"):
        nearedge.load_calculator("models:/nearedge-surrogate@champion", run_dir)

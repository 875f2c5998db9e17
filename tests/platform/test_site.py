"""What the environment tells campaigns: servers, run directories, Ray."""

from pathlib import Path

import pytest
from tests.platform.campaign_files import write_config

from nearedge import site
from nearedge.config import load_config
from nearedge.rundir import RunDir, find_runs
from nearedge_db.errors import UserError

JOB = Path("ray/session_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef")


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in (site.DATABASE, site.MLFLOW, site.RUNS, site.RAY_ADDRESS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_servers_come_from_the_environment_where_the_settings_are_silent(tmp_path, monkeypatch):
    monkeypatch.setenv(site.DATABASE, "postgresql+psycopg://me@host/name")
    monkeypatch.setenv(site.MLFLOW, "http://host:5000")
    config = load_config(write_config(tmp_path))
    assert (config.database, config.mlflow) == ("postgresql+psycopg://me@host/name", "http://host:5000")
    config = load_config(write_config(tmp_path, mlflow="http://other:5000"), ["database=sqlite:///x.db"])
    assert (config.database, config.mlflow) == ("sqlite:///x.db", "http://other:5000")


def test_run_directories_are_where_the_environment_says(tmp_path, monkeypatch):
    config = load_config(write_config(tmp_path, dir=None))
    assert config.run_dir == Path("runs/checked") == RunDir.of("checked").path
    monkeypatch.setenv(site.RUNS, str(tmp_path / "shared"))
    assert config.run_dir == tmp_path / "shared" / "checked" == RunDir.of("checked").path
    config.run_dir.mkdir(parents=True)
    RunDir(config.run_dir).write("checked")
    assert [run.path for run in find_runs()] == [config.run_dir]


def test_a_job_leaves_no_results_in_its_own_working_directory(tmp_path, monkeypatch):
    folder = tmp_path / JOB / "sub"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert site.runs_folder() == tmp_path / "home" / "nearedge-runs"
    assert site.warning_about(site.runs_folder() / "film") is None
    assert "which Ray removes" in (site.warning_about(Path("results")) or "")
    monkeypatch.setenv(site.RUNS, "here")  # asked for, and warned of
    assert site.runs_folder() == Path("here")
    assert site.warning_about(site.runs_folder() / "film") is not None


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (None, None, None),
        (None, "", None),
        (None, "10.0.0.1:6379", "10.0.0.1:6379"),
        (None, "auto", "auto"),
        (None, "local", None),
        ("local", "10.0.0.1:6379", None),
        ("head:6379", "10.0.0.1:6379", "head:6379"),
        ("head:6379", "http://head:8265", "head:6379"),
    ],
)
def test_the_cluster_is_that_of_the_settings_else_that_of_the_job(monkeypatch, given, environment, expected):
    if environment is not None:
        monkeypatch.setenv(site.RAY_ADDRESS, environment)
    assert site.ray_address(given) == expected


def test_the_address_of_a_dashboard_takes_no_drivers(monkeypatch):
    monkeypatch.setenv(site.RAY_ADDRESS, "http://127.0.0.1:8265")
    with pytest.raises(
        UserError, match=r"RAY_ADDRESS is the address of a dashboard; got http://.*ray job submit"
    ):
        site.ray_address(None)


def test_a_run_directory_belongs_to_one_campaign(tmp_path):
    run = RunDir(tmp_path / "run")
    run.check_owner("film")  # there is nothing yet
    run.path.mkdir()
    run.write("film")
    RunDir(run.path).check_owner("film")
    with pytest.raises(UserError, match=r"belongs to another campaign; got .* of 'film', not 'other'"):
        RunDir(run.path).check_owner("other")


def test_a_campaign_is_not_begun_anew_in_another_database(tmp_path):
    run = RunDir(tmp_path / "run")
    run.check_database("postgresql+psycopg://me@host/name")  # there is no campaign yet
    run.path.mkdir()
    run.write("film", "postgresql+psycopg://me:secret@host/name")
    run.check_database("postgresql+psycopg://me:secret@host/name")
    run.check_database("postgresql+psycopg://me:another@host/name")  # passwords change
    with pytest.raises(
        UserError, match="has another database; got the SQLite file in it, it has postgresql"
    ) as told:
        run.check_database(None)
    assert "secret" not in str(told.value)
    assert site.DATABASE in str(told.value)

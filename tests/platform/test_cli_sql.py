"""`nearedge sql` and `nearedge db` on a small database."""

import csv
import io
import json
import sqlite3

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nearedge.cli import db
from nearedge.cli.sql import sql
from nearedge.rundir import RunDir
from nearedge_db import store
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.migrate import VERSION_TABLE, head

app = typer.Typer()
app.command("sql")(sql)
app.add_typer(db.app, name="db")


@pytest.fixture
def run_dir(tmp_path):
    database = Database.open(url_of_run(tmp_path))
    with database.begin() as session:
        store.put_structure(session, np.array([6, 6]), np.array([[0, 0, 0], [1, 1, 1.0]]), 3 * np.eye(3))
    database.dispose()
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_csv(run_dir):
    result = invoke(
        "sql", "SELECT formula, n_atoms, cell FROM structures", "--dir", run_dir, "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert rows == [{"formula": "C2", "n_atoms": "2", "cell": "<NPY 200 bytes>"}]


def test_json(run_dir):
    result = invoke(
        "sql", "SELECT n_atoms, cn2_fraction FROM structures", "--dir", run_dir, "--format", "json"
    )
    assert json.loads(result.stdout) == [{"n_atoms": 2, "cn2_fraction": None}]


def test_table_is_not_folded_in_a_pipe(run_dir):
    result = invoke("sql", "SELECT hash, hash AS again, formula FROM structures", "--dir", run_dir)
    assert any(line.split()[-1:] == ["C2"] and len(line.split()) == 3 for line in result.stdout.splitlines())
    assert "1 row" in result.stdout


def test_a_wide_table_in_a_pipe_shows_every_value(run_dir):
    names = ", ".join(f"hash AS column_{k}" for k in range(30))
    told = invoke("sql", f"SELECT {names} FROM structures", "--dir", run_dir).stdout
    header, values = [
        line.split() for line in told.splitlines() if "column_0" in line or len(line.split()) == 30
    ]
    assert header == [f"column_{k}" for k in range(30)]
    assert len(set(values)) == 1
    assert "…" not in told


def test_limit(run_dir):
    query = "SELECT 1 AS x UNION ALL SELECT 2"
    result = invoke("sql", query, "--dir", run_dir, "--format", "csv", "--limit", 1)
    assert result.stdout == "x\n1\n"


@pytest.mark.parametrize("query", ["DELETE FROM structures", "SELECT * FROM nowhere"])
def test_refused(run_dir, query):
    result = invoke("sql", query, "--dir", run_dir)
    assert isinstance(result.exception, UserError)


def test_no_database_names_those_nearby(run_dir, tmp_path_factory):
    parent = tmp_path_factory.mktemp("parent")
    assert isinstance(invoke("sql", "SELECT 1", "--dir", parent).exception, UserError)
    (parent / "runs").mkdir()
    (parent / "runs" / "demo").symlink_to(run_dir)
    error = invoke("sql", "SELECT 1", "--dir", parent).exception
    assert "runs/demo" in str(error)


@pytest.mark.parametrize(
    "command", [("sql", "SELECT formula FROM structures"), ("db", "current"), ("db", "upgrade")]
)
def test_a_campaign_with_another_database(run_dir, tmp_path_factory, monkeypatch, command):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    RunDir(elsewhere).write("film", database=url_of_run(run_dir))
    expected = invoke(*command, "--dir", run_dir).stdout
    assert expected
    assert invoke(*command, "--dir", elsewhere).stdout == expected
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    monkeypatch.setenv("NEAREDGE_DATABASE", url_of_run(run_dir))
    assert invoke(*command).stdout == expected
    assert isinstance(invoke(*command, "--dir", ".").exception, UserError)


def test_current_and_upgrade(run_dir):
    assert f"revision {head()}, newest {head()}" in invoke("db", "current", "--dir", run_dir).stdout
    assert f"revision {head()}" in invoke("db", "upgrade", "--dir", run_dir).stdout


def test_current_of_a_newer_database_tells_and_upgrade_refuses(run_dir):
    with sqlite3.connect(run_dir / "nearedge.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    told = invoke("db", "current", "--dir", run_dir).stdout
    assert "revision 9999" in told
    assert "pip install --upgrade nearedge" in told
    assert "db upgrade" not in told
    assert isinstance(invoke("db", "upgrade", "--dir", run_dir).exception, UserError)


def test_upgrade_makes_no_database(tmp_path):
    assert isinstance(invoke("db", "upgrade", "--dir", tmp_path).exception, UserError)
    assert list(tmp_path.iterdir()) == []

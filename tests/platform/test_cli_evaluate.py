"""``nearedge evaluate``."""

import json

import pytest
import typer
from tests.reference import reference_path
from typer.testing import CliRunner

from nearedge.cli.evaluate import evaluate
from nearedge_db.errors import UserError
from nearedge_services.structures.extxyz import read_structures, write_structures

app = typer.Typer()
app.command()(evaluate)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def some(tmp_path):
    path = tmp_path / "some.extxyz"
    write_structures(path, read_structures(reference_path("ac_nep_dev.extxyz"))[:2])
    return path


def test_table_has_both_columns(some):
    result = run(some, "--reference", reference_path("ac_nep_dev.extxyz"))
    assert result.exit_code == 0
    for word in (
        "Generated",
        "Reference",
        "4-fold atoms",
        "6-rings per atom",
        "g(r) RMSE",
        "novel",
        "By density",
    ):
        assert word in result.output


def test_json_is_the_whole_result(some):
    result = json.loads(run(some, "--reference", some, "--json").output)
    assert result["generated"] == 2
    assert result["overall"]["g_r_rmse"] == 0
    assert result["novelty"]["share"] == 0


def test_missing_reference(some, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        run(some, "--reference", tmp_path / "none.extxyz")


def test_help_ends_with_an_example():
    assert "Example: nearedge evaluate" in " ".join(run("--help").output.split())

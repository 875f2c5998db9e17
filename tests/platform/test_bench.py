"""Benches: the registry, the command, its files, and what a user may get wrong."""

import importlib
import json
import os
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from nearedge.bench import base, record
from nearedge.bench.base import BenchOptions, BenchResult, Row, make_bench
from nearedge.cli import app as program
from nearedge_db.errors import UserError

command = importlib.import_module("nearedge.cli.bench")


class FakeBench:
    """Measures its own options."""

    name = "fake"

    def run(self, options, report):
        report(0.5, "half-way")
        rows = [
            Row.at_most("speed", 2.0, 3.0, "s", baseline=9.0),
            Row.at_least("quality", 0.2, 0.5, "%"),
            Row.shown("threads", torch.get_num_threads()),
        ]
        data = {"seed": options.seed, "curve": np.array([1.0, np.nan]), "short": options.short}
        return BenchResult(self.name, rows, data)

    def draw(self, result, path):
        path.write_bytes(b"picture of " + result.name.encode())


@pytest.fixture
def fake(monkeypatch):
    module = ModuleType("fake_bench_module")
    module.FakeBench = FakeBench
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(base.BENCHES, "fake", "fake_bench_module:FakeBench")


def invoke(*arguments):
    app = Typer()
    app.command()(command.bench)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_result_is_written_drawn_and_printed(fake, tmp_path):
    out = tmp_path / "new" / "folder"
    before = torch.get_num_threads()
    result = invoke("fake", "--out", out, "--short", "--seed", 7, "--threads", before + 1)
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == before
    whole = json.loads((out / "fake.json").read_text())
    assert whole["data"] == {"seed": 7, "curve": [1.0, None], "short": True}
    assert whole["options"]["threads"] == before + 1
    assert whole["rows"][2]["measured"] == before + 1
    assert whole["seed"] == 7
    assert whole["passed"] is False
    assert [row["passed"] for row in whole["rows"]] == [True, False, None]
    assert whole["seconds"] >= 0
    assert whole["versions"]["torch"] == torch.__version__
    assert whole["machine"]["cores"] >= 1
    assert (out / "fake.png").read_bytes() == b"picture of fake"
    lines = result.output.splitlines()
    speed = next(line for line in lines if "speed" in line)
    assert "≤ 3" in speed
    assert "9" in speed
    assert "yes" in speed
    assert "NO" in next(line for line in lines if "quality" in line)
    assert "1 of 2 limits reached" in result.output


def test_an_unknown_name_is_answered_with_those_there_are(fake, tmp_path):
    error = invoke("nothing", "--out", tmp_path / "out").exception
    assert isinstance(error, UserError)
    assert "nothing" in str(error)
    assert "fake, generation, loop, material, oracles, scale, steering, surrogate" in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out", "file"),
        ("--out", "file/below"),
        ("--out", "out", "--model", "none"),
        ("--out", "out", "--reference", "none"),
    ],
)
def test_nothing_starts_with_paths_that_cannot_work(fake, tmp_path, monkeypatch, arguments):
    (tmp_path / "file").write_text("kept")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FakeBench, "run", lambda *_: pytest.fail("started"))
    assert isinstance(invoke("fake", *arguments).exception, UserError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_permission_is_refused(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="cannot be written"):
        command.check_paths(tmp_path / "out", None, None)


def test_the_program_has_the_command_and_prints_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["bench", "nothing", "--out", str(tmp_path)])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_is_imported_without_the_libraries():
    code = "import sys, nearedge.cli.bench, nearedge.bench.base; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "matplotlib", "numpy", "rich.progress"} & set(modules)


@pytest.mark.parametrize(
    ("row", "passed"),
    [
        (Row.at_most("a", 1.0, 1.0), True),
        (Row.at_most("a", 1.1, 1.0), False),
        (Row.at_least("a", 1.0, 1.0), True),
        (Row.at_least("a", 0.9, 1.0), False),
        (Row.at_most("a", float("nan"), 1.0), False),
        (Row.at_least("a", None, 1.0), False),
        (Row.shown("a", 1.0), None),
    ],
)
def test_limits(row, passed):
    assert row.passed is passed


def test_a_named_model_folder_must_have_the_model(tmp_path):
    (tmp_path / "prior").mkdir()
    options = BenchOptions(tmp_path, models=tmp_path)
    assert options.model("prior", ["C"]) == tmp_path / "prior"
    with pytest.raises(UserError, match="there is no surrogate here"):
        options.model("surrogate", ["C"])


def test_what_json_cannot_hold_is_an_error(tmp_path):
    with pytest.raises(TypeError, match="object"):
        record.document(BenchResult("a", [], {"x": object()}), BenchOptions(tmp_path), 1.0)


@pytest.mark.parametrize("name", sorted(base.BENCHES))
def test_every_bench_can_be_made(name):
    bench = make_bench(name)
    assert bench.name == name
    assert callable(bench.run)
    assert callable(bench.draw)

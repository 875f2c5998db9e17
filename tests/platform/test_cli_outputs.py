"""Paths that commands are given."""

import os
from pathlib import Path

import pytest
from tests.platform.synthetic_campaign import make_campaign
from typer import Typer
from typer.testing import CliRunner

from nearedge.cli.export import export
from nearedge.cli.outputs import FIGURES, check_output, check_output_folder, existing_run
from nearedge.cli.report import report
from nearedge.cli.stop import stop
from nearedge_db.errors import UserError


def invoke(command, *arguments):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_output_that_can_be_written_is_not_created(tmp_path):
    check_output(tmp_path / "figure.PNG", FIGURES)
    check_output_folder(tmp_path / "models" / "prior")
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for path, words in [
        (tmp_path, "is a directory"),
        (tmp_path / "none" / "a.csv", "does not exist"),
        (file / "a.csv", "does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            check_output(path)
    with pytest.raises(UserError, match=r"name it \.png, \.pdf or \.svg"):
        check_output(tmp_path / "figure.doc", FIGURES)
    with pytest.raises(UserError, match="is a file"):
        check_output_folder(file / "prior")
    assert file.read_text() == "kept"


def test_an_input_is_no_output(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("kept")
    link.hardlink_to(file)
    check_output(tmp_path / "other", inputs=[file, None, tmp_path / "none"])
    for path in (file, link, tmp_path / "." / "file"):
        with pytest.raises(UserError, match="the output is the input"):
            check_output(path, inputs=[None, file])


def test_a_device_may_be_an_output():
    check_output(Path(os.devnull))


@pytest.mark.parametrize("name", ["nearedge.db", "campaign.json"])
def test_a_campaign_is_not_overwritten(tmp_path, name):
    make_campaign(tmp_path).dispose()
    (tmp_path / name).touch()
    before = (tmp_path / name).read_bytes()
    for command in (report, export):
        output = tmp_path / name if command is export else tmp_path / "link.html"
        if command is report:
            output.symlink_to(tmp_path / name)
        error = invoke(command, "demo", "--dir", tmp_path, "-o", output).exception
        assert "the output is the input" in str(error)
    assert (tmp_path / name).read_bytes() == before


def test_missing_permissions(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UserError, match="cannot be written"):
        check_output(tmp_path / "a.csv")
    with pytest.raises(UserError, match="cannot be written"):
        check_output_folder(tmp_path / "models")


def test_a_run_directory_must_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    assert existing_run("demo", tmp_path).path == tmp_path
    with pytest.raises(UserError, match="is a file"):
        existing_run("demo", tmp_path / "file")
    with pytest.raises(UserError, match="no campaign here"):
        existing_run("demo", tmp_path / "file" / "below")
    assert isinstance(invoke(stop, "demo", "--dir", tmp_path / "file").exception, UserError)


@pytest.mark.parametrize(
    ("option", "name"), [("--png", "r.html"), ("--png", "r.pdf"), ("-o", "r.png"), ("-o", "none/r.html")]
)
def test_a_report_writes_nothing_when_one_output_is_wrong(tmp_path, option, name):
    make_campaign(tmp_path).dispose()
    before = sorted(tmp_path.iterdir())
    result = invoke(report, "demo", "--dir", tmp_path, option, tmp_path / name)
    assert isinstance(result.exception, UserError)
    assert sorted(tmp_path.iterdir()) == before

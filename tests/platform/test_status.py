"""``nearedge status`` and the run directory it reads."""

import io
import json

import pytest
from rich.console import Console
from tests.platform.inferred_campaign import Network, Setup, make, networks, spectrum_of
from tests.platform.synthetic_campaign import Plan, make_campaign, make_empty_campaign
from typer import Typer
from typer.testing import CliRunner

from nearedge.cli.status import status
from nearedge.rundir import RunDir, find_runs
from nearedge.status import duration, print_summary
from nearedge.summary import summarise
from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.ledger import Ledger
from nearedge_db.states import CampaignState

app = Typer()
app.command()(status)


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    make_campaign(folder).dispose()
    return RunDir(folder)


def _run(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


def test_json_of_one_campaign(run_dir):
    result = _run("demo", "--dir", str(run_dir.path), "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.output)
    assert record["late_over_unguided"] == pytest.approx(9 / 26)
    assert record["best_over_seed"] == pytest.approx(0.4)
    assert record["labels"]["guided"] == 9
    assert record["pools"]["labeler"] == pytest.approx(0.75)


def test_trainings_that_mlflow_does_not_have_are_shown(run_dir):
    database = run_dir.open_database()
    ledger = Ledger(database)
    said = "trainings that MLflow does not have yet: 1 (sent by the next run, or by `nearedge models sync`)"
    try:
        assert "MLflow" not in _run("demo", "--dir", str(run_dir.path)).output
        task = ledger.submit("track", "track:1", {}, campaign_id=1)
        assert said in " ".join(_run("demo", "--dir", str(run_dir.path)).output.split())
        record = json.loads(_run("demo", "--dir", str(run_dir.path), "--json").output)
        assert record["unsent_trainings"] == 1
        ledger.lease("somebody", task_id=task.id)
        ledger.complete(task.id, "somebody", lambda session, task: None, 0.0)
        assert "MLflow" not in _run("demo", "--dir", str(run_dir.path)).output
    finally:
        database.dispose()


def test_a_run_directory_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for arguments in (("demo", "--dir", str(file)), ("--dir", str(file))):
        error = _run(*arguments).exception
        assert isinstance(error, UserError)
        assert "run directory is a file" in str(error)
    assert "no campaign" in str(_run("demo", "--dir", str(file / "below")).exception)


def test_default_directory_is_runs_and_the_name(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.path.parents[1])
    assert json.loads(_run("demo", "--json").output)["campaign"] == "demo"


def test_without_a_name_all_campaigns_are_listed(run_dir, monkeypatch):
    monkeypatch.chdir(run_dir.path.parents[1])
    other = run_dir.path.parent / "empty"
    other.mkdir()
    make_empty_campaign(other).dispose()
    assert [one["campaign"] for one in json.loads(_run("--json").output)] == ["demo", "empty"]
    table = _run().output
    assert "demo" in table
    assert "9/9" in table


def test_with_a_directory_alone_its_campaign_is_shown(run_dir):
    assert json.loads(_run("--dir", str(run_dir.path), "--json").output)["campaign"] == "demo"


def test_nothing_there_is_the_users_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(_run().exception, UserError)
    assert isinstance(_run("demo").exception, UserError)
    assert json.loads(_run("--json").output) == []


def test_the_tables_show_the_ratios(run_dir):
    text = _printed(run_dir.open_database())
    assert "0.35" in text  # 9/26
    assert "0.40" in text
    assert "75%" in text
    assert "failed for good (1 not converged)" in text


def test_the_tables_leave_no_distance_out(run_dir):
    lines: dict[str, str] = {}
    for line in _printed(run_dir.open_database()).splitlines():
        if line.split():
            lines.setdefault(line.split()[0], line)  # a table of costs follows, with rows of the same names
    assert lines["starting"].split()[-3:] == ["6", "20.00", "29.00"]
    assert lines["unguided"].split()[-3:] == ["3/3", "22.00", "26.00"]


def test_the_tables_set_the_best_structures_beside_what_the_spectrum_says(tmp_path):
    setup = Setup(spectrum_of(2.7, 0.45), networks(24), guided=[Network(3.3, 0.9)])
    lines = _printed(make(tmp_path, setup)).splitlines()
    (header,) = (line for line in lines if "the spectrum says" in line)
    assert header.index("the spectrum says") < header.index("best structures")
    (density,) = (line for line in lines if line.strip().startswith("density"))
    assert density.split()[-1] == "outside"
    assert "3.30 ± 0.00" in density
    assert "The best structures disagree with what the spectrum alone says" in " ".join(lines)


def test_why_the_spectrum_says_nothing_is_printed(run_dir):
    text = " ".join(_printed(run_dir.open_database()).split())
    assert "What the spectrum alone says cannot be told: too few networks, 6 starting structures" in text


def test_markup_in_a_reason_is_shown_as_it_is(tmp_path):
    database = make_campaign(tmp_path, Plan(stop_reason="[red]odd[/red]", state=CampaignState.STOPPED))
    assert "[red]odd[/red]" in _printed(database)


def test_an_empty_campaign_prints(tmp_path):
    assert "0/9" in _printed(make_empty_campaign(tmp_path), "empty")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "—"), (3.0, "3.0 s"), (120, "2.0 min"), (7200, "2.0 h")]
)
def test_duration_picks_its_unit(seconds, text):
    assert duration(seconds) == text


def test_record_names_another_database(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    database = make_campaign(elsewhere)
    folder = tmp_path / "run"
    folder.mkdir()
    RunDir(folder).write("demo", database.url, "http://mlflow.example:5000")
    run_dir = RunDir(folder)
    assert (run_dir.database_url, run_dir.campaign_name) == (database.url, "demo")
    assert run_dir.mlflow_uri == "http://mlflow.example:5000"
    assert [found.path for found in find_runs(tmp_path)] == [elsewhere, folder]
    database.dispose()


def test_record_without_urls_stays_valid_when_the_directory_moves(run_dir, tmp_path):
    run_dir.write("demo")
    moved = RunDir(run_dir.path.rename(tmp_path / "moved"))
    database = moved.open_database()
    assert isinstance(database, Database)
    assert summarise(database, moved.campaign_name).campaign == "demo"
    assert str(moved.path) in moved.mlflow_uri
    database.dispose()


def test_a_damaged_record_and_an_empty_folder_are_the_users_errors(tmp_path):
    with pytest.raises(UserError, match="no campaign here"):
        _ = RunDir(tmp_path).database_url
    (tmp_path / "campaign.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        _ = RunDir(tmp_path).database_url


def test_two_campaigns_in_one_database_must_be_named(tmp_path):
    make_campaign(tmp_path).dispose()
    make_empty_campaign(tmp_path).dispose()
    with pytest.raises(UserError, match="demo, empty"):
        _ = RunDir(tmp_path).campaign_name


def _printed(database, name="demo"):
    stream = io.StringIO()
    print_summary(summarise(database, name), Console(file=stream, width=120))
    database.dispose()
    return stream.getvalue()

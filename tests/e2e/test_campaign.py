"""One whole campaign on real Ray, from the command line to the report."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from tests.e2e.tiny import SETTINGS, nearedge, rows, status, write_campaign

from nearedge_services.structures.extxyz import labelled, read_structures

KINDS = ("prior", "surrogate", "potential")
LABELS = SETTINGS["stop"]["labels"]
BASELINE = SETTINGS["stop"]["baseline_labels"]
SEEDS = SETTINGS["seeds"]["count"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A finished campaign: its folder, its run directory and what the program printed."""
    folder = tmp_path_factory.mktemp("campaign")
    write_campaign(folder)
    result = nearedge("run", "tiny.yaml", cwd=folder)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return SimpleNamespace(folder=folder, run=folder / "runs" / "tiny", output=result.stdout)


def ask(campaign, query: str) -> list[tuple]:
    return rows(campaign.folder, query)


def test_every_role_has_its_labels_and_distances(campaign):
    found = ask(campaign, "SELECT role, COUNT(*), COUNT(spectral_distance) FROM label_uses GROUP BY role")
    assert sorted(found) == [
        ("baseline", BASELINE, BASELINE),
        ("guided", LABELS, LABELS),
        ("seed", SEEDS, SEEDS),
    ]
    assert ask(campaign, "SELECT COUNT(*) FROM label_uses WHERE spectral_distance <= 0") == [(0,)]


def test_nothing_is_left_under_way(campaign):
    assert ask(campaign, "SELECT state, stop_reason FROM campaigns") == [
        ("FINISHED", f"budget: {LABELS} labels spent")
    ]
    unfinished = "SELECT kind, state FROM tasks WHERE state IN ('PENDING', 'LEASED', 'RETRY')"
    assert ask(campaign, unfinished) == []
    assert ask(campaign, "SELECT COUNT(*) FROM candidates WHERE state = 'QUEUED'") == [(0,)]
    assert ask(campaign, "SELECT DISTINCT state FROM generations") == [("CLOSED",)]
    assert ask(campaign, "SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'") == [(0,)]
    labelled_candidates = "SELECT COUNT(*) FROM candidates WHERE state = 'LABELLED'"
    assert ask(campaign, labelled_candidates) == [(BASELINE + LABELS,)]


def test_every_label_was_computed_once(campaign):
    doubles = "SELECT 1 FROM labels GROUP BY structure_id, settings_hash HAVING COUNT(*) > 1"
    assert ask(campaign, doubles) == []
    finished = "SELECT COUNT(*) FROM labels_ledger WHERE kind = 'label' AND state = 'DONE'"
    assert ask(campaign, finished) == [(BASELINE + LABELS,)]


def test_the_views_show_the_discovered_structures(campaign):
    found = ask(
        campaign,
        "SELECT structure_id, formula, n_atoms, density_g_cm3, energy_per_atom_ev, spectral_distance, oracle,"
        " prior_version, surrogate_version, potential_version, seed, mlflow_run_id, spectral_distance_std"
        " FROM discovered_structures WHERE role = 'guided'",
    )
    assert len(found) == LABELS
    assert all(None not in row for row in found)
    assert {row[1] for row in found} == {"C8"}
    assert all(2.0 <= row[3] <= 3.2 for row in found)
    best = ask(campaign, "SELECT spectral_distance, best_so_far FROM campaign_progress ORDER BY sequence")
    distances, best_so_far = np.array(best).T
    np.testing.assert_allclose(best_so_far, np.minimum.accumulate(distances))
    assert len(best) == SEEDS + BASELINE + LABELS


def test_the_study_of_optuna_is_in_the_same_database(campaign):
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{campaign.run / 'nearedge.db'}")
    sources = [trial.user_attrs.get("source") for trial in study.get_trials()]
    assert sources.count("starting structure") == SEEDS
    assert sources.count("baseline") == BASELINE
    assert sources.count("guided") == LABELS
    used = {number for (number,) in ask(campaign, "SELECT trial_number FROM generations")} - {None}
    assert used <= {trial.number for trial in study.get_trials()}
    smallest = ask(campaign, "SELECT MIN(spectral_distance) FROM label_uses")[0][0]
    measured = [t.value for t in study.get_trials() if "key" in t.user_attrs]
    assert None not in measured
    assert min(measured) == pytest.approx(smallest)


def test_mlflow_has_every_training(campaign):
    client = MlflowClient(f"sqlite:///{campaign.run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    models = ask(campaign, "SELECT kind, mlflow_run_id, dataset_hash, metrics_json FROM models")
    assert {kind for kind, *_ in models} == set(KINDS)
    assert {run_id for _, run_id, *_ in models} <= set(runs)  # a training may have been cut short by the end
    for _, run_id, dataset, _ in models:
        assert runs[run_id].info.status == "FINISHED"
        assert runs[run_id].data.tags["nearedge.dataset_hash"] == dataset
        assert runs[run_id].data.metrics
        assert all(np.isfinite(value) for value in runs[run_id].data.metrics.values())
    for kind in KINDS:
        champion = client.get_model_version_by_alias(f"nearedge-{kind}", "champion")
        crowned = f"SELECT registered_version FROM models WHERE champion AND kind = '{kind}'"
        assert ask(campaign, crowned) == [(int(champion.version),)]


def test_weights_are_safetensors_and_json(campaign):
    for model in (campaign.run / "models").glob("*/[0-9]*"):
        assert {path.suffix for path in model.rglob("*") if path.is_file()} == {".safetensors", ".json"}
    kept = {path.suffix for path in (campaign.run / "mlflow-artifacts").rglob("*") if path.is_file()}
    assert kept <= {"", ".safetensors", ".json", ".yaml", ".txt", ".py"}  # "" is the file MLmodel
    for kind in KINDS:
        assert (campaign.run / "models" / "champion" / kind / "weights.safetensors").is_file()


def test_status_as_json_agrees_with_the_database(campaign):
    told = status(campaign.folder)
    keys = {"state", "labels", "best_distance", "best_seed_distance", "late_over_unguided", "pools", "cost"}
    assert keys <= set(told)
    assert told["state"] == "FINISHED"
    assert (told["labels"]["seed"], told["labels"]["baseline"]) == (SEEDS, BASELINE)
    assert told["labels"]["guided"] == LABELS
    query = "SELECT MIN(spectral_distance) FROM label_uses WHERE role = '{}'"
    assert told["best_distance"] == ask(campaign, query.format("guided"))[0][0]
    assert told["best_seed_distance"] == ask(campaign, query.format("seed"))[0][0]
    assert set(told["pools"]) == {"generator", "scorer", "labeler", "trainer"}
    assert all(0 < share <= 1 for share in told["pools"].values())


def test_the_report_stands_alone_and_tells_the_same(campaign):
    page = (campaign.run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)
    told = status(campaign.folder)
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL))
    text = " ".join(text.split())
    assert f"finished with {LABELS} of {LABELS} guided labels (budget: {LABELS} labels spent)" in text
    assert f"misses the target by {1000 * told['best_distance']:.2f} × 10⁻³ per eV;" in text
    assert f"the best starting structure by {1000 * told['best_seed_distance']:.2f}." in text
    assert f"{told['late_over_unguided']:.2f} late guided over unguided, median distance" in text
    assert f"{told['best_over_seed']:.2f} best found over best starting structure" in text
    assert (campaign.run / "report.png").stat().st_size > 10_000


def test_what_the_spectrum_alone_says_is_told(campaign):
    """The target is a made-up curve, which networks of carbon do not have: that must be said, whatever is inferred."""
    told = status(campaign.folder)["inferred"]
    assert set(told["properties"]) == {"density_g_cm3", "cn2_fraction", "cn3_fraction", "cn4_fraction"}
    assert all(one["low"] <= one["median"] <= one["high"] for one in told["properties"].values())
    assert (told["source"], told["refusal"], told["shipped_not_used"]) == ("shipped", None, None)
    assert told["typicality"] < 0.01
    assert told["best_outside"] == []
    page = (campaign.run / "report.html").read_text(encoding="utf-8")
    for text in (page, " ".join(campaign.output.split())):
        assert "The library does not know such spectra" in text


def test_the_best_structures_can_be_read(campaign):
    best = read_structures(campaign.run / "best.extxyz")
    assert len(best) >= LABELS
    assert all(labelled(atoms) for atoms in best)
    assert all(len(atoms) == 8 and atoms.pbc.all() for atoms in best)


def test_the_same_command_again_does_nothing(campaign):
    before = ask(campaign, "SELECT COUNT(*) FROM tasks") + ask(campaign, "SELECT MAX(id) FROM events")
    started = time.monotonic()
    again = nearedge("run", "tiny.yaml", cwd=campaign.folder)
    assert again.returncode == 0, again.stderr
    assert "is finished" in again.stdout
    assert "ray" not in (again.stdout + again.stderr).lower()
    assert ask(campaign, "SELECT COUNT(*) FROM tasks") + ask(campaign, "SELECT MAX(id) FROM events") == before
    assert time.monotonic() - started < 60


def test_another_seed_is_refused(campaign):
    other = nearedge("run", "tiny.yaml", "--seed", "4", cwd=campaign.folder)
    assert other.returncode == 2
    assert other.stderr.startswith("error: ")
    assert "another seed" in other.stderr
    assert len(other.stderr.splitlines()) == 1


def test_the_log_tells_of_every_task_and_of_who_did_it(campaign):
    (path,) = (campaign.run / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    worked = [line for line in lines if line["message"] == "work done" and line["data"]["state"] == "DONE"]
    tasks = ask(campaign, "SELECT id FROM tasks WHERE state = 'DONE' AND kind != 'track'")
    assert sorted(line["task"] for line in worked) == sorted(task for (task,) in tasks)
    assert {line["pool"] for line in worked} == {"labeler", "trainer"}
    assert {line["campaign"] for line in lines} == {"tiny"}
    up = {line["data"]["actor"] for line in lines if line["message"] == "actor up"}
    assert {line["actor"] for line in worked} <= up
    assert lines[0]["message"] == "driver begins"
    ended = [line["data"] for line in lines if line["message"] == "driver ends"]
    assert [end["state"] for end in ended] == ["FINISHED"]

import os
from datetime import UTC, datetime

import mlflow
import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.potential.potential import Potential
from nearedge_services.registry import ModelRegistry, load_calculator
from nearedge_services.registry.packaging import requirements


def test_a_training_is_a_run_and_a_version(recorded):
    registry, models, _ = recorded
    assert [model.version for model in models] == [1, 2, 3]
    assert {model.name for model in models} == {"nearedge-potential"}
    run = registry._client.get_run(models[2].run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"steps": "200", "elements": "['C']"}
    assert run.data.metrics == pytest.approx({"force_rmse_ev_per_a": 1 / 3})
    assert run.data.tags["nearedge.dataset_hash"] == "2" * 64
    assert run.inputs.dataset_inputs[0].dataset.digest == "2" * 36
    assert [item.path for item in registry._client.list_artifacts(run.info.run_id, "extra")] == [
        "extra/notes.txt"
    ]


def test_versions_carry_metrics_and_tags(registry):
    versions = registry.versions("potential")
    assert [v.version for v in versions] == [1, 2, 3]
    assert [v.is_champion for v in versions] == [True, False, False]
    assert versions[1].metrics["force_rmse_ev_per_a"] == 0.5
    assert versions[1].tags["campaign"] == "carbon"
    assert versions[1].created_at.tzinfo is not None
    assert registry.versions("prior") == []


def test_recording_does_not_promote(recorded):
    registry = recorded[0]
    assert registry.champion("surrogate") is None
    registry.promote("potential", 2)
    before = registry.champion("potential")
    assert before == 2


def test_champions_go_forward_and_back(registry):
    registry.promote("potential", 3)
    registry.promote("potential", 3)
    registry.promote("potential", 2)
    assert registry.champion("potential") == 2
    assert registry.rollback("potential") == 3
    assert registry.rollback("potential") == 1
    assert registry.champion("potential") == 1
    with pytest.raises(UserError, match="no earlier champion"):
        registry.rollback("potential")
    tags = {v.version: v.tags for v in registry.versions("potential")}
    assert "nearedge.promoted_at" in tags[3]
    assert "nearedge.rolled_back_at" in tags[2]


def test_two_clients_agree(registry, recorded):
    other = ModelRegistry(registry.tracking_uri, "carbon")
    other.promote("potential", 3)
    assert registry.champion("potential") == 3


def test_downloaded_model_predicts_the_same(registry, potential, tmp_path):
    atoms = Atoms("C4", positions=np.random.default_rng(0).uniform(0, 4, (4, 3)), cell=[4, 4, 4], pbc=True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.json").write_text("{}")
    folder = registry.download("potential", "champion", tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "metrics.json",
        "weights.safetensors",
    ]
    loaded = Potential.load(folder)
    assert loaded.predict([atoms])[0].energy_ev == potential.predict([atoms])[0].energy_ev
    atoms.calc = load_calculator("models:/nearedge-potential@champion", registry.tracking_uri)
    assert atoms.get_potential_energy() == potential.predict([atoms])[0].energy_ev
    assert load_calculator("models:/nearedge-potential/2", registry.tracking_uri, members=1).members == 1


def test_recorded_again_by_its_identity_it_is_the_same(recorded, model_folder):
    registry = recorded[0]
    span = (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, 0, 1, tzinfo=UTC))
    given = ("potential", model_folder, {"steps": 1}, {"force_rmse_ev_per_a": 0.5}, "9" * 64)
    first, again = (registry.record_training(*given, content="the same", span=span) for _ in range(2))
    other = registry.record_training(*given, content="another")
    assert first == again
    assert other.run_id != first.run_id
    assert registry.run_of("potential", first.version) == first.run_id
    assert registry.run_of("potential", 999) is None
    info = registry._client.get_run(first.run_id).info
    assert (info.start_time, info.end_time) == tuple(int(at.timestamp() * 1000) for at in span)
    for made in (first, other):
        registry._client.delete_model_version(made.name, str(made.version))


def test_a_version_has_a_signature_and_an_example_that_fits_it(recorded):
    registry, models, _ = recorded
    folder = registry._client.download_artifacts(models[0].run_id, "model")
    model = mlflow.models.Model.load(folder)
    assert (model.run_id, model.artifact_path) == (models[0].run_id, "model")
    example, signature = model.load_input_example(folder), model.signature
    assert signature.inputs.input_names() == ["numbers", "cell", "positions"]
    assert set(example.columns) == set(signature.inputs.input_names())
    assert example["numbers"][0] == [6] * 8
    contact = np.linalg.norm(np.subtract(*example["positions"][0][:2]))
    assert 1.4 < contact < 2.0


def test_a_model_whose_elements_nobody_knows_is_refused(recorded, tmp_path, model_folder):
    (tmp_path / "weights.safetensors").write_bytes((model_folder / "weights.safetensors").read_bytes())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="which elements"):
        recorded[0].record_training("potential", tmp_path, {}, {}, "aa")


def test_the_store_is_by_default_the_one_mlflow_uses(registry, monkeypatch, tmp_path):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: registry.tracking_uri)
    assert load_calculator("models:/nearedge-potential@champion", members=1).members == 1
    nowhere = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with pytest.raises(UserError, match="no model registry"):
        load_calculator("models:/nearedge-potential@champion", nowhere)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/nearedge-surrogate@champion", "ASE calculator"),
        ("models:/nearedge-potential@nobody", "alias"),
        ("models:/nearedge-potential/99", "version"),
        ("models:/somebody-else@champion", "kind"),
        ("nearedge-potential", "address"),
    ],
)
def test_bad_addresses(registry, uri, says):
    with pytest.raises(UserError, match=says):
        load_calculator(uri, registry.tracking_uri)


def test_nothing_is_pickled(recorded):
    run_dir = recorded[2]
    files = [path for path in (run_dir / "mlflow-artifacts").rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert not [
        path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"}
    ]
    for path in files:
        assert not path.read_bytes().startswith(
            (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
        ), path
    recipe = next(path for path in files if path.name == "MLmodel").read_text()
    assert "python_model:" not in recipe
    assert "pyfunc_entry.py" in recipe


def test_foreign_files_and_bad_metrics_are_refused(recorded, model_folder, tmp_path):
    registry = recorded[0]
    with pytest.raises(UserError, match="no model"):
        registry.record_training("potential", tmp_path, {}, {}, "aa")
    (tmp_path / "weights.safetensors").write_bytes((model_folder / "weights.safetensors").read_bytes())
    (tmp_path / "state.pkl").write_bytes(b"x")
    with pytest.raises(UserError, match=r"state\.pkl"):
        registry.record_training("potential", tmp_path, {}, {}, "aa")
    failed = registry._client.search_runs([registry._experiment_id()], "attributes.status = 'FAILED'")
    assert len(failed) >= 2
    with pytest.raises(UserError, match="finite"):
        registry.record_training("potential", model_folder, {}, {"loss": float("nan")}, "aa")
    with pytest.raises(UserError, match="kind"):
        registry.record_training("oracle", model_folder, {}, {}, "aa")
    with pytest.raises(UserError, match="version"):
        registry.promote("potential", 77)


def test_leaves_mlflow_itself_alone(recorded):
    registry = recorded[0]
    assert mlflow.get_tracking_uri() != registry.tracking_uri
    assert mlflow.active_run() is None
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_requirements_are_pinned():
    assert all("==" in line for line in requirements("potential"))
    assert any(line.startswith("mace-torch==") for line in requirements("potential"))


def test_runs_that_nobody_ended_are_closed(tmp_path):
    """Only those with the tags of the campaign; what ended stays as it ended."""
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "carbon")
    tags = {"nearedge.campaign": "carbon@2026-01-01T00:00:00.000001"}
    assert registry.close_abandoned(tags) == 0
    experiment, client = registry.open(), registry._client
    killed, other, ended = (client.create_run(experiment, tags=t).info.run_id for t in (tags, {}, tags))
    client.set_terminated(ended, "FINISHED")
    assert registry.close_abandoned(tags) == 1
    states = [client.get_run(run).info.status for run in (killed, other, ended)]
    assert states == ["KILLED", "RUNNING", "FINISHED"]
    assert client.get_run(killed).info.end_time is not None

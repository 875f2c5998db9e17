"""A campaign on real Ray that starts from the models of another one."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from tests.e2e.tiny import SETTINGS, nearedge, rows, write_campaign

from nearedge.generation.models import weights_identity

KINDS = ("prior", "surrogate", "potential")

pytestmark = pytest.mark.slow


def run(folder: Path, **models) -> str:
    """Run the tiny campaign to its end; what it printed."""
    write_campaign(folder, models={**SETTINGS["models"], **models})
    result = nearedge("run", "tiny.yaml", cwd=folder)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_the_champions_of_one_campaign_are_the_first_models_of_the_next(tmp_path):
    assert "trained from nothing, models.start is nothing: prior, surrogate, potential" in run(
        tmp_path / "one"
    )
    champions = tmp_path / "one" / "runs" / "tiny" / "models" / "champion"
    identities = {kind: weights_identity(champions / kind) for kind in KINDS}

    output = run(tmp_path / "next", start=str(champions))
    assert "trained from nothing" not in output
    first = rows(tmp_path / "next", "SELECT kind, n_train, registered_version FROM models WHERE sequence = 0")
    assert sorted(first) == [(kind, 0, 1) for kind in sorted(KINDS)]
    client = MlflowClient(f"sqlite:///{tmp_path / 'next' / 'runs' / 'tiny' / 'mlflow.db'}")
    for kind in KINDS:
        assert identities[kind] in output
        tags = client.get_model_version(f"nearedge-{kind}", "1").tags
        assert tags["start"] == str(champions)
        assert tags["weights"] == identities[kind]
        copied = tmp_path / "next" / "runs" / "tiny" / "models" / kind / "000"
        assert weights_identity(copied) == identities[kind]
    # the end may cut the retraining short
    retraining = (
        "SELECT COUNT(*) FROM tasks WHERE json_extract(payload_json, '$.parent_model_id') IS NOT NULL"
    )
    assert rows(tmp_path / "next", retraining)[0][0] >= 1

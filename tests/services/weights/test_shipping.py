"""The models that come with the program: found by elements, and part of what is installed."""

import json
import shutil
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from nearedge_services import weights
from nearedge_services.inference.library import read_library
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.pretraining.materials import started_values
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.weights.labels import LabelledBy, labelled_by

CHECKOUT = Path(__file__).resolve().parents[3]
MODEL_FILES = ("config.json", "weights.safetensors")


def put_model(root: Path, kind: str) -> None:
    """Empty files where a model of carbon belongs."""
    (root / "carbon" / kind).mkdir(parents=True)
    for name in MODEL_FILES:
        (root / "carbon" / kind / name).touch()


@pytest.mark.parametrize(("builder", "prefix"), [(WheelBuilder, ""), (SdistBuilder, "services/")])
def test_weights_are_packed(tmp_path, builder, prefix):
    """By the build settings and the ignored files of this checkout."""
    for name in ("pyproject.toml", ".gitignore", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path)
    put_model(tmp_path / "services" / "nearedge_services" / "weights", "prior")
    for package in ("platform/nearedge", "agents/nearedge_agents", "db/nearedge_db"):
        (tmp_path / package).mkdir(parents=True)
    packed = {file.distribution_path for file in builder(str(tmp_path)).recurse_included_files()}
    folder = f"{prefix}nearedge_services/weights/carbon"
    assert {f"{folder}/prior/{name}" for name in MODEL_FILES} <= packed


def test_models_are_found_by_their_elements(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    put_model(tmp_path, "prior")
    assert weights.shipped("prior", ["C", "C"]) == tmp_path / "carbon" / "prior"
    assert weights.shipped("surrogate", ["C"]) is None
    assert weights.shipped("prior", ["Si"]) is None
    assert weights.shipped("prior", ["C", "Si"]) is None


def test_the_library_is_found_by_its_elements(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    assert weights.shipped_library(["C"]) is None
    (tmp_path / "carbon").mkdir()
    (tmp_path / "carbon" / weights.LIBRARY_FILE).touch()
    assert weights.shipped_library(["C", "C"]) == tmp_path / "carbon" / weights.LIBRARY_FILE
    assert weights.shipped_library(["C", "Si"]) is None


def test_the_library_that_comes_with_the_program_fits_the_default_oracle():
    path = weights.shipped_library(["C"])
    oracle = make_oracle("xtb", {})
    assert path is not None
    assert labelled_by(path.parent) == LabelledBy.of(oracle)
    assert read_library(path).grid == oracle.grid


def test_the_defaults_of_both_pretrainings_are_those_of_the_models_that_come_with_the_program():
    """The first from nothing, the second from what the first made."""
    path = Path(weights.__file__).parent / "carbon" / "pretraining.json"
    shipped = json.loads(path.read_text(encoding="utf-8"))
    first = PretrainingSettings.model_validate(shipped["start"]["settings"])
    second = PretrainingSettings.model_validate(shipped["settings"])
    assert first == PretrainingSettings()
    assert second == PretrainingSettings.model_validate(started_values("C"))

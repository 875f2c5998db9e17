"""A saved model as an MLflow pyfunc: code by reference, weights as safetensors, nothing pickled."""

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.oracles.external import scratch_prefix
from nearedge_services.registry.examples import example_input
from nearedge_services.registry.mlflow_library import mlflow_module

MODEL_ARTIFACT = "weights"
"""Folder of the model inside the pyfunc's artifacts."""
METRICS_FILE = "metrics.json"

_ENTRY = Path(__file__).with_name("pyfunc_entry.py")
_ALLOWED = {".safetensors", ".json"}
_PACKAGES = {
    "prior": ("nearedge", "torch", "safetensors", "ase", "vesin"),
    "surrogate": ("nearedge", "torch", "safetensors", "ase", "vesin"),
    "potential": ("nearedge", "torch", "safetensors", "ase", "matscipy", "mace-torch"),
}


def save_pyfunc(
    target: Path, kind: str, model_folder: Path, metrics: dict[str, float], run_id: str | None = None
) -> Path:
    """Write the pyfunc folder `target` for the model in `model_folder`, and return it.

    The metrics of the training are kept beside the weights as `metrics.json`; who loads the model finds `run_id` in its
    metadata. Raises UserError when the
    folder has no model or holds files other than safetensors and JSON.
    """
    _check(model_folder)
    mlflow = mlflow_module()
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("packaging")) as scratch:
        model = Path(scratch) / MODEL_ARTIFACT
        shutil.copytree(model_folder, model)
        (model / METRICS_FILE).write_text(
            json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        with _temporary_files_in(scratch), warnings.catch_warnings():
            # MLflow notes that the columns of whole numbers cannot be missing: nor may they
            warnings.simplefilter("ignore")
            mlflow.pyfunc.save_model(
                str(target),
                python_model=str(_ENTRY),
                artifacts={MODEL_ARTIFACT: str(model)},
                model_config={"kind": kind},
                signature=_signature(kind),
                input_example=example_input(kind, model_folder),
                pip_requirements=requirements(kind),
                mlflow_model=mlflow.models.Model(artifact_path=target.name, run_id=run_id),
            )
    return target


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """MLflow's temporary files go there: what a killed process leaves of them is then swept with the folder."""
    before = tempfile.tempdir
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def requirements(kind: str) -> list[str]:
    """The packages that load a model of this kind, pinned to the versions installed here."""
    pinned = []
    for package in _PACKAGES[kind]:
        try:
            pinned.append(f"{package}=={version(package)}")
        except PackageNotFoundError:
            # a checkout on PYTHONPATH has no distribution of its own to name
            pinned.append(package)
    return pinned


def _check(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(
            "no model in this folder", got=folder, fix="give the folder that the model's save wrote"
        )
    foreign = sorted(path.name for path in files if path.suffix not in _ALLOWED)
    if foreign:
        raise UserError(
            "a model is safetensors and JSON only", got=", ".join(foreign), fix="remove the other files"
        )


def _signature(kind: str) -> Any:
    """Columns in and out; see `pyfunc_entry` for what they mean."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    row, rows = Array(DataType.double), Array(Array(DataType.double))
    structure = [ColSpec(Array(DataType.long), "numbers"), ColSpec(rows, "cell")]
    placed = [*structure, ColSpec(rows, "positions")]
    columns = {
        "potential": (
            placed,
            [
                ColSpec(DataType.double, "energy_ev"),
                ColSpec(DataType.double, "energy_std_ev_per_atom"),
                ColSpec(rows, "forces_ev_per_a"),
                ColSpec(DataType.double, "max_force_std_ev_per_a"),
            ],
        ),
        "surrogate": (
            [*placed, ColSpec(DataType.string, "absorber", required=False)],
            [ColSpec(row, "energies_ev"), ColSpec(row, "cell_mean"), ColSpec(row, "cell_mean_std")],
        ),
        "prior": (
            [*structure, ColSpec(DataType.long, "seed", required=False)],
            [ColSpec(Array(DataType.long), "numbers"), ColSpec(rows, "cell"), ColSpec(rows, "positions")],
        ),
    }
    inputs, outputs = columns[kind]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))

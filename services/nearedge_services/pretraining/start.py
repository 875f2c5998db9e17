"""What a pretraining takes from earlier models instead of beginning from nothing: potential, networks, record."""

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.networks.weights import CONFIG_FILE
from nearedge_services.pretraining.jobs import oracle_of
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.pretraining.trainings import KINDS
from nearedge_services.weights import LIBRARY_FILE, TRAINING_NETWORKS_FILE
from nearedge_services.weights.labels import PRETRAINING_FILE, LabelledBy

START_FILE = "start.json"
"""Record and identity of the models that a pretraining started from."""
START_NETWORKS = "start_networks.npz"
"""The networks that those models learnt from."""
START_LIBRARY = "start_library.npz"
"""Their library of spectra."""

_MODEL_FILES = (CONFIG_FILE, "metrics.json", "weights.safetensors")


def copy_start(start: Path, folder: Path, settings: PretrainingSettings) -> None:
    """Copy into ``folder`` what is needed of ``start``: the folder of a finished pretraining, or of its models.

    ``start.json`` comes first, so that a folder whose copies are not complete is known. Raises UserError when there
    are no models, or models of another material or by another oracle.
    """
    kinds = KINDS if settings.renews == "potential" else ("potential",)
    record, models = _record_of(start, kinds), _models_of(start)
    _check_fits(record, start, settings)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"identity": _identity(models), "record": record}, indent=1, sort_keys=True) + "\n"
    (folder / START_FILE).write_text(text, encoding="utf-8")
    shutil.copy(models / TRAINING_NETWORKS_FILE, folder / START_NETWORKS)
    shutil.copy(models / LIBRARY_FILE, folder / START_LIBRARY)
    if settings.renews == "networks":
        shutil.copytree(models / "potential", folder / "models" / "potential", dirs_exist_ok=True)
        return
    shutil.copytree(models / "potential", potential_folder(folder, 0), dirs_exist_ok=True)
    for kind in ("prior", "surrogate"):
        shutil.copytree(models / kind, folder / "models" / kind, dirs_exist_ok=True)
    for file in (TRAINING_NETWORKS_FILE, LIBRARY_FILE):
        shutil.copy(models / file, folder / "models" / file)


def potential_folder(folder: Path, number: int) -> Path:
    """Where a pretraining keeps the potential that quenches after so many rounds."""
    return folder / f"potential-{number}"


def check_start(folder: Path, start: Path | None) -> None:
    """Raise UserError when the pretraining in ``folder`` began otherwise than from ``start``."""
    before = _stored(folder)
    if start is None and before is not None:
        raise UserError(
            "this folder was begun from earlier models",
            got="no start",
            fix="give the same --start, or another folder",
        )
    if start is not None:
        _record_of(start)
        if before is None or before["identity"] != _identity(_models_of(start)):
            raise UserError(
                "this folder was begun from another start",
                got=str(start),
                fix="give another folder, or the same start to continue",
            )


def start_record(folder: Path) -> dict[str, Any] | None:
    """Record of the models that the pretraining in ``folder`` started from; None where it began from nothing."""
    stored = _stored(folder)
    return None if stored is None else stored["record"]


def _stored(folder: Path) -> dict[str, Any] | None:
    path = folder / START_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _check_fits(record: dict[str, Any], start: Path, settings: PretrainingSettings) -> None:
    unit = record["settings"]["unit"]
    if unit != settings.unit:
        raise UserError(
            "the models to start from are for another material",
            got=f"{unit} in {start}",
            fix=f"give models for {settings.unit}",
        )
    oracle = LabelledBy.of(oracle_of(settings)).as_record()["oracle"]
    if record["oracle"] != oracle:
        raise UserError(
            "the models to start from were labelled by another oracle",
            got=f"{record['oracle']} in {start}",
            fix=f"give models by {oracle}",
        )


def _identity(models: Path) -> str:
    """Hash of what is copied."""
    files = (
        models / "potential" / "weights.safetensors",
        models / TRAINING_NETWORKS_FILE,
        models / LIBRARY_FILE,
    )
    return sha256(b"".join(sha256(file.read_bytes()).digest() for file in files)).hexdigest()


def _models_of(start: Path) -> Path:
    return start / "models" if (start / "models").is_dir() else start


def _record_of(start: Path, kinds: Sequence[str] = ("potential",)) -> dict[str, Any]:
    """The record beside the models or one folder above. UserError where it or one of these models is missing or
    damaged."""
    models = _models_of(start)
    beside, above = models / PRETRAINING_FILE, models.parent / PRETRAINING_FILE
    path = beside if beside.is_file() else above
    files = [f"{kind}/{file}" for kind in kinds for file in _MODEL_FILES]
    files += [TRAINING_NETWORKS_FILE, LIBRARY_FILE]
    missing = [file for file in (path, *(models / file for file in files)) if not file.is_file()]
    if missing:
        raise UserError(
            "there are no models to start from",
            got=f"no {missing[0]}",
            fix="finish that pretraining, or name another",
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {**record, "settings": {**record["settings"]}, "oracle": {**record["oracle"]}}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            "the record beside the models is damaged", got=f"{path} ({error})", fix="copy it again"
        ) from error

"""What a pretraining takes from earlier models instead of beginning from nothing: potential, networks, record."""

import json
import shutil
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.networks.weights import CONFIG_FILE
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.weights import LIBRARY_FILE, TRAINING_NETWORKS_FILE
from nearedge_services.weights.labels import PRETRAINING_FILE

START_FILE = "start.json"
"""Record of the models that a pretraining started from."""
START_NETWORKS = "start_networks.npz"
"""The networks that those models learnt from."""
START_LIBRARY = "start_library.npz"
"""Their library of spectra."""


def copy_start(start: Path, folder: Path, settings: PretrainingSettings) -> None:
    """Copy into ``folder`` what is needed of ``start``: the folder of a finished pretraining, or of shipped models.

    Raises UserError when that holds no models, or models of another material.
    """
    record, models = _record_of(start), _models_of(start)
    if record["settings"]["unit"] != settings.unit:
        raise UserError(
            "the models to start from are for another material",
            got=f"{record['settings']['unit']} in {start}",
            fix=f"give models for {settings.unit}",
        )
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(models / "potential", folder / "models" / "potential", dirs_exist_ok=True)
    shutil.copy(models / TRAINING_NETWORKS_FILE, folder / START_NETWORKS)
    shutil.copy(models / LIBRARY_FILE, folder / START_LIBRARY)
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    (folder / START_FILE).write_text(text, encoding="utf-8")


def check_start(folder: Path, start: Path | None) -> None:
    """Raise UserError when the pretraining in ``folder`` began otherwise than from ``start``."""
    before = start_record(folder)
    now = None if start is None else _record_of(start)
    if before != now:
        raise UserError(
            "this folder was begun from another start",
            got="nothing" if now is None else str(start),
            fix="give another folder, or the same start to continue",
        )


def start_record(folder: Path) -> dict[str, Any] | None:
    """Record of the models that the pretraining in ``folder`` started from; None where it began from nothing."""
    path = folder / START_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _models_of(start: Path) -> Path:
    return start / "models" if (start / "models").is_dir() else start


def _record_of(start: Path) -> dict[str, Any]:
    models = _models_of(start)
    files = (f"potential/{CONFIG_FILE}", TRAINING_NETWORKS_FILE, LIBRARY_FILE)
    needed = (start / PRETRAINING_FILE, *(models / file for file in files))
    missing = [path for path in needed if not path.is_file()]
    if missing:
        raise UserError(
            "there are no models to start from",
            got=f"no {missing[0]}",
            fix="finish that pretraining, or name another",
        )
    return json.loads((start / PRETRAINING_FILE).read_text(encoding="utf-8"))

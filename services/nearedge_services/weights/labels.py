"""Which oracle labelled what a set of models was trained on: kept in a file beside the models."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Oracle

LABELS_FILE = "oracle.json"
"""Written beside the models of a campaign."""
PRETRAINING_FILE = "pretraining.json"
"""The record of a pretraining: beside the shipped models, and one folder above those of ``nearedge pretrain``."""


@dataclass(frozen=True)
class LabelledBy:
    """Name of an oracle and the hash of its settings."""

    name: str
    settings_hash: str

    @classmethod
    def of(cls, oracle: Oracle) -> "LabelledBy":
        """This oracle with its settings."""
        return cls(oracle.name, oracle.settings_hash)

    def as_record(self) -> dict[str, dict[str, str]]:
        """What stands in the file: ``{"oracle": {"name": …, "settings_hash": …}}``."""
        return {"oracle": asdict(self)}

    def write(self, folder: Path) -> None:
        """Say so beside the models in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{LABELS_FILE}"
        partial.write_text(json.dumps(self.as_record(), indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / LABELS_FILE)


def labelled_by(folder: Path) -> LabelledBy | None:
    """The oracle of the models in ``folder``/KIND; None where no file says it. UserError for a damaged file."""
    for path in (folder / LABELS_FILE, folder / PRETRAINING_FILE, folder.parent / PRETRAINING_FILE):
        if path.is_file():
            found = _read(path)
            if found is not None:
                return found
    return None


def _read(path: Path) -> LabelledBy | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return LabelledBy(**record["oracle"]) if "oracle" in record else None
    except (ValueError, TypeError) as error:
        raise UserError(
            "the record beside the models is damaged", got=f"{path} ({error})", fix="copy it again"
        ) from error

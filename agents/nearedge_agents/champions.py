"""The database says which model is champion; MLflow's alias and the run directory's links follow it."""

import os
from pathlib import Path

from nearedge_db.database import Database
from nearedge_db.states import ModelKind
from nearedge_db.store import champion
from nearedge_services.registry.model_registry import ModelRegistry


def show_champions(database: Database, campaign_id: int, registry: ModelRegistry) -> None:
    """Let the alias ``champion`` and ``models/champion/KIND`` name the database's champions. Idempotent."""
    for kind in ModelKind:
        with database.session() as session:
            row = champion(session, campaign_id, kind)
        if row is None:
            continue
        if row.registered_version is not None and registry.champion(kind.value) != row.registered_version:
            registry.promote(kind.value, row.registered_version)
        _link(kind.value, Path(row.folder))


def _link(kind: str, folder: Path) -> None:
    """Let ``models/champion/KIND`` point at the model: what `nearedge generate --dir` loads."""
    link = folder.parent.parent / "champion" / kind
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{kind}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)

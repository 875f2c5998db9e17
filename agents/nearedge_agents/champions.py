"""The database says which model is champion; MLflow's alias and the run directory's links follow it."""

import os
from pathlib import Path

from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.schema import ModelRow
from nearedge_db.states import ModelKind
from nearedge_db.store import champion, get_campaign
from nearedge_services.registry.model_registry import ModelRegistry

CHAMPIONS = "champion"
"""Folder beside those of the kinds, with a link to the champion of each."""


def show_champions(database: Database, campaign_id: int, registry: ModelRegistry) -> None:
    """Let MLflow's alias ``champion`` name the database's champions, where MLflow has them. Idempotent.

    Raises UserError where MLflow has another model under the version: it is not the store that they were sent to.
    """
    for row in _champions(database, campaign_id):
        version = row.registered_version
        if version is None or registry.champion(row.kind) == version:
            continue
        if registry.run_of(row.kind, version) != row.mlflow_run_id:
            raise UserError(
                f"this MLflow store does not have the champion of the {row.kind}",
                got=f"version {version} of another run than {row.mlflow_run_id}, or none",
                fix="set `mlflow` to the store that the campaign was tracked in",
            )
        registry.promote(row.kind, version)


def link_champions(database: Database, campaign_id: int, run_dir: Path) -> None:
    """Let ``models/champion/KIND`` name the database's champions; MLflow has no part in it. Idempotent."""
    for row in _champions(database, campaign_id):
        _link(row.kind, run_dir / row.folder)


def _champions(database: Database, campaign_id: int) -> list[ModelRow]:
    with database.session() as session:
        rows = [champion(session, campaign_id, kind) for kind in ModelKind]
    return [row for row in rows if row is not None]


def campaign_tags(database: Database, campaign_id: int) -> dict[str, str]:
    """Tag of the MLflow runs of a campaign: unlike its name, no other campaign of a shared store has it."""
    with database.session() as session:
        campaign = get_campaign(session, campaign_id)
    return {"nearedge.campaign": f"{campaign.name}@{campaign.created_at:%Y-%m-%dT%H:%M:%S.%f}"}


def _link(kind: str, folder: Path) -> None:
    """Let ``models/champion/KIND`` point at the model: what `nearedge generate --dir` loads."""
    link = folder.parent.parent / CHAMPIONS / kind
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{kind}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)

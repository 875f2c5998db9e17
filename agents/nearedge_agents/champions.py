"""The database says which model is champion; MLflow's alias and the run directory's links follow it."""

import os
from pathlib import Path

from nearedge_db.database import Database
from nearedge_db.states import ModelKind
from nearedge_db.store import champion, get_campaign
from nearedge_services.registry.model_registry import ModelRegistry

CHAMPIONS = "champion"
"""Folder beside those of the kinds, with a link to the champion of each."""


def show_champions(database: Database, campaign_id: int, registry: ModelRegistry, run_dir: Path) -> None:
    """Let the alias ``champion`` and ``models/champion/KIND`` name the database's champions. Idempotent."""
    for kind in ModelKind:
        with database.session() as session:
            row = champion(session, campaign_id, kind)
        if row is None:
            continue
        if row.registered_version is not None and registry.champion(kind.value) != row.registered_version:
            registry.promote(kind.value, row.registered_version)
        _link(kind.value, run_dir / row.folder)


def campaign_tags(database: Database, campaign_id: int) -> dict[str, str]:
    """Tag of the MLflow runs of a campaign: unlike its name, no other campaign of a shared store has it."""
    with database.session() as session:
        campaign = get_campaign(session, campaign_id)
    return {"nearedge.campaign": f"{campaign.name}@{campaign.created_at:%Y-%m-%dT%H:%M:%S.%f}"}


def tidy(database: Database, campaign_id: int, registry: ModelRegistry, run_dir: Path) -> None:
    """Close the runs of trainings that were killed, and show the champions; nothing may be training."""
    registry.close_abandoned(campaign_tags(database, campaign_id))
    show_champions(database, campaign_id, registry, run_dir)


def _link(kind: str, folder: Path) -> None:
    """Let ``models/champion/KIND`` point at the model: what `nearedge generate --dir` loads."""
    link = folder.parent.parent / CHAMPIONS / kind
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{kind}-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)

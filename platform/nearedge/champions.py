"""Choosing by hand which model a campaign uses."""

from nearedge.rundir import RunDir
from nearedge_agents.champions import show_champions
from nearedge_db.errors import UserError
from nearedge_db.store import list_campaigns, list_models, promote
from nearedge_services.registry.model_registry import ModelRegistry


def use_version(run_dir: RunDir, kind: str, version: int) -> None:
    """Make a registered version the champion of the campaign it was trained in; alias and links follow.

    Raises UserError when no campaign of this run directory trained it.
    """
    database = run_dir.open_database()
    try:
        with database.begin() as session:
            rows = [
                row
                for campaign in list_campaigns(session)
                for row in list_models(session, campaign.id, kind)
                if row.registered_version == version and (run_dir.path / row.folder).is_dir()
            ]
            if not rows:
                raise UserError(
                    f"no campaign here trained this version of the {kind}",
                    got=version,
                    fix="see `nearedge models list`",
                )
            promote(session, rows[-1].id)
            campaign_id = rows[-1].campaign_id
        show_champions(database, campaign_id, ModelRegistry(run_dir.mlflow_uri, experiment=""), run_dir.path)
    finally:
        database.dispose()

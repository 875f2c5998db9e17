"""Sending MLflow, outside of a campaign's run, what it did not take while the campaign ran."""

from typing import TYPE_CHECKING

from nearedge.rundir import RunDir
from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.schema import Campaign
from nearedge_db.store import count_unsent, find_campaign

if TYPE_CHECKING:
    from nearedge_agents.tracking import TrackingReport

SYNC_S = 300.0
"""How long somebody who asks for it waits for all that is unsent; each request has seconds."""


def send_left_over(database: Database, campaign: Campaign, run_dir: RunDir) -> None:
    """Try once to send what is unsent of a campaign that is finished; does nothing where all is sent."""
    with database.session() as session:
        unsent = count_unsent(session, campaign.id)
    if unsent:
        tell_mlflow(database, campaign, run_dir)


def tell_mlflow(database: Database, campaign: Campaign, run_dir: RunDir) -> "TrackingReport":
    """Send what is unsent and show the champions, in a bounded time; says what MLflow did not take, and why."""
    from nearedge_agents.tracking import Patiently, Sender

    experiment = campaign.mlflow_experiment or campaign.name
    sender = Sender(database, campaign.id, run_dir.mlflow_uri, experiment, run_dir.path.absolute())
    return Patiently().run(lambda: sender.send(opening=True), SYNC_S)


def sync(run_dir: RunDir, name: str | None = None) -> "TrackingReport":
    """`tell_mlflow` for the campaign of a run directory. Raises UserError when there is none of that name."""
    database = run_dir.open_database()
    try:
        return tell_mlflow(database, campaign_of(database, run_dir, name), run_dir)
    finally:
        database.dispose()


def campaign_of(database: Database, run_dir: RunDir, name: str | None = None) -> Campaign:
    """The campaign of a run directory, or the one of that name. Raises UserError when there is none."""
    wanted = name or run_dir.campaign_name
    with database.session() as session:
        campaign = find_campaign(session, wanted)
    if campaign is None:
        raise UserError("no such campaign in this database", got=wanted, fix="see `nearedge status`")
    return campaign

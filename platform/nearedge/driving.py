"""One process drives a campaign: it holds the campaign's lease, and shows that it lives."""

from collections.abc import Iterator
from contextlib import contextmanager

from nearedge_db import driver
from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.keepalive import KeepAlive, renewing
from nearedge_db.schema import Campaign
from nearedge_db.states import CampaignState

NO_DRIVER = "no driver: run the same command to continue"


class DriverReplacedError(Exception):
    """Another driver has taken the campaign over: nothing more may be written for it."""


def refuse_second_driver(holder: driver.Holder, name: str) -> UserError:
    """What a driver is told where another one is at work."""
    return UserError(
        f"another driver is running campaign {name!r}",
        got=str(holder),
        fix="wait for it, or stop it with `nearedge stop`",
    )


@contextmanager
def driving(database: Database, campaign_id: int) -> Iterator[KeepAlive]:
    """Keep the lease that this process has taken until the block ends, then give it back."""
    this = driver.this_process()

    def renew() -> bool:
        with database.begin() as session:
            return driver.renew(session, campaign_id, this, database.now(session))

    try:
        with renewing(renew, driver.LEASE_SECONDS, "driver-lease") as lease:
            yield lease
    finally:
        with database.begin() as session:
            driver.release(session, campaign_id, this)


def is_abandoned(campaign: Campaign, holder: driver.Holder | None) -> bool:
    """Whether the campaign's state says that it is being driven, and nobody drives it."""
    return campaign.state in (CampaignState.RUNNING, CampaignState.STOPPING) and holder is None


def shown_state(state: CampaignState, abandoned: bool) -> str:
    """The state for people: ``RUNNING (no driver: …)`` where the driver is gone."""
    return f"{state.value} ({NO_DRIVER})" if abandoned else state.value

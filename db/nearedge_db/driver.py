"""The lease of the one process that may drive a campaign.

It is part of the campaign's row, so it holds wherever the driver runs. A driver that was killed loses it when
it expires, and at once for whoever asks on the same machine, where one can see that the process is gone.

>>> with database.begin() as session:                                     # doctest: +SKIP
...     holder = take(session, campaign_id, this_process(), database.now(session))
>>> holder is None                                                        # doctest: +SKIP
True
"""

import os
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy.orm import Session

from .processes import birth_of, has_ended, host_name, this_host
from .schema import Campaign
from .store.campaigns import lock_campaign

LEASE_SECONDS = 45.0
"""How long a driver of another machine that shows no life is still believed in."""


@dataclass(frozen=True)
class Driver:
    """One life of one process: ``life`` is unique, ``birth`` tells it from a later process of the same number."""

    host: str
    pid: int
    birth: str
    life: str

    @property
    def owner(self) -> str:
        """What the campaign's row keeps of it."""
        return f"{self.birth}:{self.life}"


@dataclass(frozen=True)
class Holder:
    """Who drives a campaign, for people."""

    host: str
    pid: int
    heartbeat_at: datetime

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, last seen {self.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC"


@cache
def this_process() -> Driver:
    """This process as a driver."""
    return Driver(this_host(), os.getpid(), birth_of(os.getpid()), uuid.uuid4().hex)


def holder(campaign: Campaign, now: datetime) -> Holder | None:
    """Who drives the campaign; None when nobody does, or who did is dead or has shown no life for too long."""
    host, pid, owner = campaign.driver_host, campaign.driver_pid, campaign.driver_owner
    beat, end = campaign.driver_heartbeat_at, campaign.driver_expires_at
    if host is None or pid is None or owner is None or beat is None or end is None or end <= now:
        return None
    if host == this_host() and has_ended(pid, owner.partition(":")[0]):
        return None
    return Holder(host_name(host), pid, beat)


def take(
    session: Session, campaign_id: int, driver: Driver, now: datetime, seconds: float = LEASE_SECONDS
) -> Holder | None:
    """Become the driver of a campaign for ``seconds``; returns who is, if it is somebody else."""
    campaign = lock_campaign(session, campaign_id)
    session.refresh(campaign)
    present = holder(campaign, now)
    if present is not None and campaign.driver_owner != driver.owner:
        return present
    campaign.driver_owner, campaign.driver_host, campaign.driver_pid = driver.owner, driver.host, driver.pid
    _prolong(campaign, now, seconds)
    session.flush()
    return None


def renew(
    session: Session, campaign_id: int, driver: Driver, now: datetime, seconds: float = LEASE_SECONDS
) -> bool:
    """Show life; False when another driver has taken the campaign over."""
    campaign = lock_campaign(session, campaign_id)
    if campaign.driver_owner != driver.owner:
        return False
    _prolong(campaign, now, seconds)
    session.flush()
    return True


def release(session: Session, campaign_id: int, driver: Driver) -> bool:
    """Drive no more; False, with nothing changed, when another driver has taken the campaign over."""
    campaign = lock_campaign(session, campaign_id)
    if campaign.driver_owner != driver.owner:
        return False
    campaign.driver_owner = campaign.driver_host = campaign.driver_pid = None
    campaign.driver_heartbeat_at = campaign.driver_expires_at = None
    session.flush()
    return True


def _prolong(campaign: Campaign, now: datetime, seconds: float) -> None:
    campaign.driver_heartbeat_at = now
    campaign.driver_expires_at = now + timedelta(seconds=seconds)

"""Campaigns, their target, state and events."""

from typing import Any

import numpy as np
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from nearedge_db.hashing import content_hash
from nearedge_db.insert import dialect_of
from nearedge_db.prepared import Prepared
from nearedge_db.schema import Campaign, Event
from nearedge_db.states import CampaignState
from nearedge_db.types import utc_now

_LOCK = Prepared(
    lambda dialect: select(Campaign.id).where(Campaign.id == bindparam("campaign")).with_for_update()
)


def create_campaign(
    session: Session,
    name: str,
    config: dict[str, Any],
    *,
    seed: int,
    absorber: str,
    mlflow_experiment: str | None = None,
) -> Campaign:
    """A new campaign; raises ``IntegrityError`` when the name is taken (look with :func:`find_campaign`)."""
    campaign = Campaign(
        name=name,
        config_json=config,
        config_hash=content_hash(config),
        seed=seed,
        absorber=absorber,
        mlflow_experiment=mlflow_experiment,
    )
    session.add(campaign)
    session.flush()
    return campaign


def find_campaign(session: Session, name: str) -> Campaign | None:
    """The campaign of this name, if any."""
    return session.scalar(select(Campaign).where(Campaign.name == name))


def get_campaign(session: Session, campaign_id: int) -> Campaign:
    """The campaign; raises ``LookupError`` when there is none of this number."""
    row = session.get(Campaign, campaign_id)
    if row is None:
        raise LookupError(f"no campaign {campaign_id}")
    return row


def list_campaigns(session: Session) -> list[Campaign]:
    """Every campaign, oldest first."""
    return list(session.scalars(select(Campaign).order_by(Campaign.id)))


def lock_campaign(session: Session, campaign_id: int) -> Campaign:
    """The campaign, locked until the transaction ends: its sequence numbers are given out one at a time."""
    row = session.scalar(select(Campaign).where(Campaign.id == campaign_id).with_for_update())
    if row is None:
        raise LookupError(f"no campaign {campaign_id}")
    return row


def lock_sequences(session: Session, campaign_id: int) -> None:
    """:func:`lock_campaign` without reading the campaign, for those who number its rows.

    Nothing has to be done on SQLite, where a transaction that writes is the only one.
    """
    if dialect_of(session) == "sqlite":
        return
    if _LOCK.one(session, {"campaign": campaign_id}) is None:
        raise LookupError(f"no campaign {campaign_id}")


def set_campaign_state(
    session: Session, campaign_id: int, state: CampaignState, stop_reason: str | None = None
) -> Campaign:
    """Move a campaign to ``state``; keeps when it first ran and when it last ended, and records an event."""
    campaign = lock_campaign(session, campaign_id)
    previous, campaign.state = campaign.state, state
    if state == CampaignState.RUNNING:
        campaign.started_at = campaign.started_at or utc_now()
        campaign.finished_at = None
    if state.is_finished():
        campaign.finished_at = utc_now()
    campaign.stop_reason = stop_reason
    add_event(session, campaign_id, "state", {"from": previous, "to": state, "reason": stop_reason})
    return campaign


def set_target(
    session: Session,
    campaign_id: int,
    *,
    energies_ev: np.ndarray,
    intensity: np.ndarray,
    mask: np.ndarray,
    alignment: dict[str, Any] | None,
) -> Campaign:
    """Keep the aligned target: (G,) eV, (G,) 1/eV, (G,) bool window, and how it was aligned."""
    campaign = lock_campaign(session, campaign_id)
    campaign.target_energies_ev = np.asarray(energies_ev, dtype=float)
    campaign.target_intensity = np.asarray(intensity, dtype=float)
    campaign.target_mask = np.asarray(mask, dtype=bool)
    campaign.alignment_json = alignment
    return campaign


def add_event(session: Session, campaign_id: int, kind: str, data: dict[str, Any] | None = None) -> Event:
    """Record that something happened."""
    event = Event(campaign_id=campaign_id, kind=kind, data_json=data or {})
    session.add(event)
    session.flush()
    return event

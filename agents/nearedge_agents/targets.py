"""The campaign's target spectrum, in and out of the database."""

import json

import numpy as np
from sqlalchemy.orm import Session

from nearedge_db.schema import Campaign
from nearedge_db.store import set_target
from nearedge_services.spectra.target import Target


def store_target(session: Session, campaign_id: int, target: Target) -> None:
    """Keep ``target`` with the campaign; ``alignment_json`` holds grid, window, alignment and history."""
    arrays = target.to_arrays()
    set_target(
        session,
        campaign_id,
        energies_ev=target.grid.energies,
        intensity=target.intensity,
        mask=target.mask,
        alignment=json.loads(str(arrays["metadata"])),
    )


def load_target(campaign: Campaign) -> Target | None:
    """The target that the campaign keeps; None before it is aligned."""
    if campaign.target_intensity is None or campaign.target_mask is None:
        return None
    return Target.from_arrays(
        {
            "intensity": campaign.target_intensity,
            "mask": campaign.target_mask,
            "metadata": np.array(json.dumps(campaign.alignment_json)),
        }
    )

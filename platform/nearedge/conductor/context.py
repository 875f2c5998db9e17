"""What the stages share: the campaign's settings, its database, and a few things worth keeping in memory.

Nothing here is the only copy: all of it is read back from the database when a campaign is continued.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearedge.conductor.known import Known
from nearedge.config import MODEL_KINDS, CampaignConfig
from nearedge.gate import EnergyReference
from nearedge.starting import Start
from nearedge.steering import Steering
from nearedge_agents.models import ModelFiles
from nearedge_agents.targets import load_target
from nearedge_db.database import Database
from nearedge_db.ledger import Ledger
from nearedge_db.store import add_event, champions, get_campaign
from nearedge_services.oracles.base import Oracle
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

logger = logging.getLogger(__name__)


class CampaignFailedError(Exception):
    """The campaign cannot go on; the message says why in one line."""


@dataclass
class Context:
    """The campaign as the stages see it."""

    config: CampaignConfig
    campaign_id: int
    absorber: str
    spectrum: Spectrum
    oracle: Oracle
    database: Database
    steering: Steering
    start: Start = field(default_factory=Start)
    """Models to start from; a kind without one is trained from nothing."""
    confirming: Oracle | None = None
    """The second oracle, which checks the best and never teaches a model."""
    target: Target | None = None
    energy_reference: EnergyReference | None = None
    champions: dict[str, ModelFiles] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    """Every structure that has a label or is getting one."""
    best_distance: float = float("inf")
    """Best oracle-computed spectral distance so far, starting structures included, 1/eV."""

    is_replaced: Callable[[], bool] = lambda: False
    """Whether another driver has taken the campaign over."""
    labels_settled: int = 0
    """Labels put to use in this session: tells the training stage when to look again."""
    worst_distance: float = float("nan")
    """Largest spectral distance of a starting structure: what a rejected candidate counts for Optuna, 1/eV."""

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.database)
        self._given_target = self.target

    def read_anew(self) -> None:
        """Forget what the stages have found out: the database knows it, and what it does not know never was."""
        with self.database.session() as session:
            stored = load_target(get_campaign(session, self.campaign_id))
        self.target = stored or self._given_target
        self.energy_reference, self.champions, self.known = None, {}, Known()
        self.best_distance, self.worst_distance = float("inf"), float("nan")
        self.labels_settled = 0
        self.steering.read()

    @property
    def settings_hash(self) -> str:
        """Identity of oracle and settings."""
        return self.oracle.settings_hash

    @property
    def run_dir(self) -> Path:
        """The campaign's folder."""
        return self.config.run_dir

    def event(self, kind: str, /, **data: Any) -> None:
        """Record that something happened, in the database and in the log."""
        with self.database.begin(synced=False) as session:
            add_event(session, self.campaign_id, kind, data)
        logger.info(kind, extra={"data": data, "task": data.get("task_id")})

    def refresh_champions(self) -> list[str]:
        """Read the champions from the database; returns the kinds that changed."""
        changed: list[str] = []
        with self.database.session() as session:
            rows = champions(session, self.campaign_id)
        for kind in (kind for kind in MODEL_KINDS if kind in rows):
            held, row = self.champions.get(kind), rows[kind]
            if held is None or held.model_id != row.id:
                self.champions[kind] = ModelFiles.read(kind, row.id, self.run_dir / row.folder)
                changed.append(kind)
        return changed

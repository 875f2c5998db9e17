"""The tracking stage: trainings are sent to MLflow when it takes them; nothing else waits for that."""

import math
import time
from dataclasses import dataclass, field

from nearedge.conductor.context import Context
from nearedge.conductor.training import Training
from nearedge_agents.pool import Done, Work
from nearedge_agents.tracking import TrackingReport
from nearedge_db.errors import one_line

AGAIN_S = 60.0
"""How long to wait after MLflow has not taken something."""


@dataclass
class Tracking:
    """Has a trainer tell MLflow of the models: at the start, after each training, and again where it failed."""

    context: Context
    training: Training
    name: str = "tracking"
    pool: str = "trainer"
    trouble: str | None = None
    """Why MLflow does not have everything, if it does not."""
    under_way: bool = False
    _opened: bool = False
    _seen: int = 0
    """Trainings that had ended when MLflow was last told."""
    _again_at: float = field(default=-math.inf)

    @property
    def backlog(self) -> int:
        """One while there is something to tell MLflow."""
        return int(self._is_due and not self.under_way)

    @property
    def _is_due(self) -> bool:
        return self._seen != self.training.ended or time.monotonic() >= self._again_at

    def offer(self) -> Work | None:
        """A look at what is unsent, if there is reason to; one at a time."""
        if self.under_way or not self._is_due:
            return None
        self.under_way, self._seen = True, self.training.ended
        return Work("track", (self.context.campaign_id, not self._opened), tag=self.name, upkeep=True)

    def takes_over(self, work: Work) -> bool:
        """Nothing: it is done again."""
        return False

    def accept(self, done: Done) -> None:
        """Whatever went wrong, the campaign goes on: what is unsent is in the database."""
        self.under_way = False
        report = TrackingReport() if done.error is not None else done.value
        trouble = report.trouble if done.error is None else one_line(done.error)
        self._opened = self._opened or trouble is None
        unfinished = trouble is not None or report.unsent > 0
        self._again_at = time.monotonic() + AGAIN_S if unfinished else math.inf
        self._tell(trouble, report)

    def _tell(self, trouble: str | None, report: TrackingReport) -> None:
        """An event where it begins and where it ends, not for each attempt."""
        if trouble is not None and self.trouble is None:
            self.context.event("tracking delayed", error=trouble, unsent=report.unsent)
        if trouble is None and self.trouble is not None:
            self.context.event("tracking goes on", sent=report.sent, unsent=report.unsent)
        self.trouble = trouble

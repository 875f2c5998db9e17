"""How long labels that are queued will take: the order in which the labelers get them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from nearedge_services.oracles.base import Oracle, runs_of
from nearedge_services.oracles.cost_model import SECONDS, CostModel, learnt


@dataclass(frozen=True)
class Foresight:
    """What the labels of one oracle take, as far as the database tells when this is made."""

    oracle: Oracle
    model: CostModel | None

    @classmethod
    def of(cls, session: Session, oracle: Oracle) -> "Foresight":
        """That of an oracle."""
        return cls(oracle, learnt(session, oracle.name, oracle.settings_hash))

    def expected(self, numbers: npt.NDArray[np.int64]) -> float:
        """Of a label of these atoms (N,), s; before the first label a guess that only orders."""
        atoms, runs = len(numbers), runs_of(self.oracle, numbers)
        if self.model is None:
            return float(runs * atoms**SECONDS.exponent)
        return self.model.seconds(atoms, runs)

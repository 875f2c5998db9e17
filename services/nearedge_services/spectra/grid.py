"""The energy axis on which an oracle declares its spectra."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nearedge_db.errors import UserError


@dataclass(frozen=True)
class EnergyGrid:
    """Equally spaced energies in eV relative to the oracle's own zero (the Fermi level).

    Both ends belong to the grid. Raises UserError when the range is empty or the step does not divide it.
    """

    start_ev: float = -2.0
    stop_ev: float = 28.0
    step_ev: float = 0.25

    def __post_init__(self) -> None:
        if not (self.step_ev > 0 and self.stop_ev > self.start_ev):
            raise UserError(
                "the energy grid is empty", got=self, fix="set stop_ev > start_ev and step_ev > 0"
            )
        intervals = (self.stop_ev - self.start_ev) / self.step_ev
        if abs(intervals - round(intervals)) > 1e-6:
            raise UserError(
                "step_ev does not divide the energy range", got=self, fix="choose a step that does"
            )

    @cached_property
    def energies(self) -> npt.NDArray[np.float64]:
        """Energies in eV, shape (G,)."""
        return np.linspace(self.start_ev, self.stop_ev, self.size)

    @property
    def size(self) -> int:
        """Number of grid points, G."""
        return round((self.stop_ev - self.start_ev) / self.step_ev) + 1

    @cached_property
    def weights(self) -> npt.NDArray[np.float64]:
        """Trapezoid weights in eV, shape (G,): an integral is ``weights @ intensity``."""
        weights = np.full(self.size, float(self.step_ev))
        weights[[0, -1]] /= 2
        return weights

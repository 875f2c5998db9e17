"""What a label will cost: seconds as a power of the number of atoms, learnt from labels that were made.

Only labels of the same oracle and settings may be given together. The regression is robust: one label on a machine
that was busy with something else hardly moves it.
"""

from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt

PRIOR_EXPONENT = 2.0
"""Between one run for each absorber (at least 1) and diagonalisation (3)."""

_EXPONENT_SPREAD = 1.0
_PRIOR_SPREAD = 0.7
"""Of log seconds about the curve, before anything is known: a factor of two."""
_PRIOR_LABELS = 4
_HUBER = 1.345
_ROUNDS = 30
_UPPER_SIGMA = 3.0

FEWEST_FOR_LIMIT = 8
"""Labels that must be known before a time limit is learnt from them."""
SHORTEST_LIMIT_S = 600.0
_GENEROSITY = 5.0
_LONGER = 3.0


@dataclass(frozen=True)
class CostModel:
    """seconds(N) = exp(at_reference) (N / reference_atoms)^exponent, times what scatters by exp(spread).

    Attributes:
        at_reference: log of the seconds of a label of ``reference_atoms``.
        spread: standard deviation of log seconds; includes what few labels leave open.
        labels: how many it was learnt from.
    """

    at_reference: float
    reference_atoms: float
    exponent: float
    spread: float
    labels: int

    def seconds(self, atoms: int) -> float:
        """The middle of what is to be expected, s."""
        return exp(self.at_reference + self.exponent * log(atoms / self.reference_atoms))

    def upper_seconds(self, atoms: int) -> float:
        """What hardly any label exceeds, s: three standard deviations; more, the further it extrapolates."""
        distance = log(atoms / self.reference_atoms)
        spread = np.hypot(self.spread, distance * _EXPONENT_SPREAD / np.sqrt(1 + self.labels))
        return self.seconds(atoms) * exp(_UPPER_SIGMA * float(spread))

    def limit_s(self, atoms: int, timeouts: int) -> float | None:
        """A generous time limit, s, three times as long for each time-out before; None while too few are known."""
        if self.labels < FEWEST_FOR_LIMIT:
            return None
        return float(max(SHORTEST_LIMIT_S, _GENEROSITY * self.upper_seconds(atoms)) * _LONGER**timeouts)


def learn(atoms: npt.ArrayLike, seconds: npt.ArrayLike) -> CostModel | None:
    """The model of labels of so many atoms (L,) that took so many seconds (L,); None where there is none.

    The exponent starts at `PRIOR_EXPONENT` and is never negative, so a larger cell never costs less.

    Example:
        >>> model = learn([16, 32, 64] * 10, [1.0, 8.0, 64.0] * 10)
        >>> round(model.exponent, 1)
        3.0
    """
    sizes, times = np.asarray(atoms, dtype=float), np.asarray(seconds, dtype=float)
    known = (sizes > 0) & (times > 0)
    if not known.any():
        return None
    x, y = np.log(sizes[known]), np.log(times[known])
    reference = float(np.median(x))
    x = x - reference
    middle, exponent, spread = float(np.median(y)), PRIOR_EXPONENT, _PRIOR_SPREAD
    for _ in range(_ROUNDS):
        residuals = y - middle - exponent * x
        spread = _spread(residuals)
        weights = 1 / np.maximum(1.0, np.abs(residuals) / (_HUBER * spread))
        stiffness = (spread / _EXPONENT_SPREAD) ** 2
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        slope = weights @ ((x - mean_x) * (y - mean_y)) + stiffness * PRIOR_EXPONENT
        exponent = max(0.0, float(slope / (weights @ (x - mean_x) ** 2 + stiffness)))
        middle = float(mean_y - exponent * mean_x)
    return CostModel(middle, exp(reference), exponent, spread, len(x))


def _spread(residuals: npt.NDArray[np.float64]) -> float:
    """Standard deviation by the median, which outliers do not reach, and what was assumed before."""
    count = len(residuals)
    seen = 1.4826 * float(np.median(np.abs(residuals)))
    total = _PRIOR_LABELS * _PRIOR_SPREAD**2 + count * seen**2
    return float(np.sqrt(total / (_PRIOR_LABELS + count)))

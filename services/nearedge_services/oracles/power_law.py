"""A quantity as a power of the size, learnt from few numbers that scatter, with some far off.

Robust regression of logarithms (Huber's weights) with a prior for the exponent, which is never negative.
"""

from dataclasses import dataclass
from math import exp, log

import numpy as np
import numpy.typing as npt

_HUBER = 1.345
_ROUNDS = 30
_UPPER_SIGMA = 3.0
_PRIOR_COUNT = 4
"""As many numbers the prior's scatter counts for."""


@dataclass(frozen=True)
class Prior:
    """What is assumed before anything was seen.

    Attributes:
        exponent: of the size.
        exponent_spread: its standard deviation.
        most: the exponent is never assumed to be larger, however little is known.
        spread: standard deviation of the quantity's logarithm about the law.
    """

    exponent: float
    exponent_spread: float
    most: float
    spread: float


@dataclass(frozen=True)
class PowerLaw:
    """value(size) = exp(at_reference) (size / reference)^exponent, times what scatters by exp(spread).

    Attributes:
        at_reference: log of the value at the size ``reference``, which is the middle of those seen.
        exponent_range: where the exponent may lie: three standard deviations, within 0 and the prior's ``most``. Of
            numbers that all belong to one size it is as wide as the prior's.
        spread: standard deviation of the logarithm; includes what few numbers leave open.
        count: how many it was learnt from.
    """

    at_reference: float
    reference: float
    exponent: float
    exponent_range: tuple[float, float]
    spread: float
    count: int

    def middle(self, size: float) -> float:
        """What is to be expected."""
        return exp(self.at_reference + self.exponent * log(size / self.reference))

    def upper(self, size: float) -> float:
        """What hardly anything exceeds: three standard deviations, and the worst of the exponents."""
        beyond = log(size / self.reference)
        exponent = self.exponent_range[1 if beyond > 0 else 0]
        return exp(self.at_reference + exponent * beyond + _UPPER_SIGMA * self.spread)


def fit(sizes: npt.ArrayLike, values: npt.ArrayLike, prior: Prior) -> PowerLaw | None:
    """The law of these values (L,) at these sizes (L,); None where none of them is positive.

    Example:
        >>> law = fit([16, 32, 64] * 10, [1.0, 8.0, 64.0] * 10, Prior(2.0, 1.0, 4.0, 0.7))
        >>> round(law.exponent, 1)
        3.0
    """
    size, value = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    known = (size > 0) & (value > 0)
    if not known.any():
        return None
    x, y = np.log(size[known]), np.log(value[known])
    reference = float(np.median(x))
    x = x - reference
    middle, exponent, spread, stiffness, leverage = (
        float(np.median(y)),
        prior.exponent,
        prior.spread,
        1.0,
        0.0,
    )
    for _ in range(_ROUNDS):
        residuals = y - middle - exponent * x
        spread = _spread(residuals, prior)
        weights = 1 / np.maximum(1.0, np.abs(residuals) / (_HUBER * spread))
        stiffness = (spread / prior.exponent_spread) ** 2
        mean_x, mean_y = np.average(x, weights=weights), np.average(y, weights=weights)
        leverage = float(weights @ (x - mean_x) ** 2)
        slope = weights @ ((x - mean_x) * (y - mean_y)) + stiffness * prior.exponent
        exponent = float(np.clip(slope / (leverage + stiffness), 0.0, prior.most))
        middle = float(mean_y - exponent * mean_x)
    open_by = _UPPER_SIGMA * spread / np.sqrt(leverage + stiffness)
    exponents = max(0.0, exponent - open_by), min(prior.most, exponent + open_by)
    return PowerLaw(middle, exp(reference), exponent, exponents, spread, len(x))


def _spread(residuals: npt.NDArray[np.float64], prior: Prior) -> float:
    """Standard deviation by the median, which outliers do not reach, and what was assumed before."""
    count = len(residuals)
    seen = 1.4826 * float(np.median(np.abs(residuals)))
    total = _PRIOR_COUNT * prior.spread**2 + count * seen**2
    return float(np.sqrt(total / (_PRIOR_COUNT + count)))

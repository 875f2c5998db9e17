"""How far the truth lies from the ensemble: scales that make 90 % intervals cover 90 % of the truth.

The scatter of an ensemble ranks errors but understates them. Here a standard deviation s of the members
becomes ``sqrt((factor·s)² + floor²)``. The ratio factor : floor is the one of largest posterior on held-out
errors: Gaussian likelihood, and a prior of the share of the variance that the members explain which grows with it
(p ∝ share), for a dozen structures may say by chance that the members tell nothing. Both are then multiplied so that
the conformal quantile of |error| / std is that of a Gaussian (normalised residual scores, section 2.3 of Angelopoulos
and Bates, "Conformal prediction: a gentle introduction", 2023).
"""

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Array = npt.NDArray[np.float64]

COVERAGE = 0.9

#: Shares of the variance that the members may explain, from hardly any to nearly all.
VARIANCE_SHARES = (0.01, 0.03, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.96)


#: Weight of the scatter at one energy beside the mean over all energies of a structure.
POINT_SHARE = 0.25

#: Part of a spectrum's error that changes its distance to another: the part along their difference. Measured on
#: carbon networks; only its ratio to the members' own scatter matters, the scale is fitted.
ALONG = 0.2


def smoothed(spread: npt.ArrayLike) -> Array:
    """Standard deviations (…, G) of a few members, drawn to their root mean square over the energies.

    That of three members at one energy is mostly chance; that of a whole spectrum tells how far the structure
    is from what the members know.
    """
    square = np.square(np.asarray(spread, dtype=float))
    return np.sqrt(POINT_SHARE * square + (1 - POINT_SHARE) * square.mean(axis=-1, keepdims=True))


def distance_spread(members: npt.ArrayLike, spectrum: npt.ArrayLike) -> Array:
    """Scatter (…) of a distance, 1/eV: of the members' distances and, for there are few members, of their
    spectra (…, G).
    """
    along = ALONG**2 * np.square(np.asarray(spectrum, dtype=float)).mean(axis=-1)
    return np.sqrt(0.5 * (np.square(np.asarray(members, dtype=float)) + along))


class IntervalScale(BaseModel):
    """Turns an ensemble's standard deviation into a calibrated one, same unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Half width of the central 90 % interval of a Gaussian in standard deviations.
    HALF_WIDTH_90: ClassVar[float] = 1.6448536269514722

    factor: float = Field(ge=0, description="Multiplies the standard deviation of the members.")
    floor: float = Field(ge=0, description="Smallest standard deviation, in the unit of the quantity.")

    def std(self, spread: npt.ArrayLike) -> Array:
        """Calibrated standard deviation for the members' standard deviation, any shape."""
        return np.hypot(self.factor * np.asarray(spread, dtype=float), self.floor)

    def covers(self, error: npt.ArrayLike, spread: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the 90 % interval holds the truth, any shape."""
        return np.abs(np.asarray(error)) <= self.HALF_WIDTH_90 * self.std(spread)

    @classmethod
    def fit(cls, errors: npt.ArrayLike, spreads: npt.ArrayLike, structures: int | None = None) -> Self:
        """Fit on errors and members' standard deviations of the same shape, of so many independent structures
        (default: one for each error).

        Raises ValueError for empty or non-finite input.
        """
        error, spread = np.abs(np.ravel(errors)).astype(float), np.ravel(spreads).astype(float)
        if not len(error) or not np.isfinite([*error, *spread]).all():
            raise ValueError("calibration needs finite errors")
        typical_error, typical_spread = max(_rms(error), 1e-12), max(_rms(spread), 1e-12)
        fits = []
        for share in VARIANCE_SHARES:
            shape = cls(
                factor=typical_error / typical_spread * share**0.5, floor=typical_error * (1 - share) ** 0.5
            )
            loss = (structures or len(error)) * _gaussian_loss(error, shape.std(spread)) - np.log(share)
            fits.append((loss, shape))
        best = min(fits, key=lambda fit: fit[0])[1]
        level = min(1.0, COVERAGE * (1 + 1 / len(error)))
        ratios: Array = error / best.std(spread)
        scale = float(np.quantile(ratios, level)) / cls.HALF_WIDTH_90
        return cls(factor=best.factor * scale, floor=max(best.floor * scale, 1e-12))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _gaussian_loss(error: Array, std: Array) -> float:
    """Negative log likelihood with the best common scale, per value."""
    ratio = (error / std) ** 2
    return float(0.5 * np.log(max(float(np.mean(ratio)), 1e-24)) + np.mean(np.log(std)))


class Calibration(BaseModel):
    """The scales of one surrogate.

    Attributes:
        spectrum: for the cell-mean spectrum at one energy, 1/eV.
        distance: for the spectral distance, 1/eV.
        excess: share of the spectrum's mean variance added to the squared distance (``expected_distance``).
        structures: number of held-out structures behind the fit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spectrum: IntervalScale
    distance: IntervalScale
    excess: float = Field(ge=0, le=1)
    structures: int = Field(ge=1)


def expected_distance(of_mean: npt.ArrayLike, variance: npt.ArrayLike, excess: float) -> Array:
    """Expected distance, 1/eV, from the distance of the ensemble mean and the mean variance of the spectrum.

    The distance of the mean spectrum is too small near the target (errors add in quadrature to a distance
    that cannot be negative); the mean of the members' distances is too large by their own scatter. With
    errors independent of the remaining difference E[d²] = d(mean)² + variance; the share ``excess`` of it
    that held-out structures show is fitted.
    """
    return np.sqrt(np.square(of_mean) + excess * np.asarray(variance))


def fit_excess(of_mean: Array, variance: Array, true: Array) -> float:
    """The share in [0, 1] with the smallest squared error of ``expected_distance``; all shapes equal."""

    def error(share: float) -> float:
        return float(np.mean((expected_distance(of_mean, variance, share) - true) ** 2))

    return min(np.linspace(0, 1, 11).tolist(), key=error)

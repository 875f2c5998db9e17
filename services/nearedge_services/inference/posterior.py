"""From a library of simulated networks and one spectrum to a posterior of density and coordination.

Simulation-based inference: the library is networks of known density ρ with their cell-mean spectra and
shares of two-, three- and four-fold atoms. Each spectrum is reduced to K principal components z. At a given
density the library is described by a Gaussian regression, with one share c beside the components,

    (z, c) = Bᵀ φ(ρ) + ε,   ε ~ N(0, S),   φ = polynomials of ρ,

where S is the covariance of networks of the same density: what a spectrum and a share vary together by though
the density is fixed. With the uninformative prior p(B, S) ∝ |S|^(−(d+1)/2) the prediction for a new network is
a multivariate Student t (Geisser, Ann. Math. Stat. 36, 150 (1965)), which carries the smallness of the library
into the intervals. Bayes' rule on a grid of densities then gives

    p(ρ | z) ∝ p(ρ) t(z; ρ)^temper,   p(c | z) = Σ_ρ p(ρ | z) t(c | z, ρ).

The second step is what regression adjustment does in approximate Bayesian computation (Beaumont, Zhang and
Balding, Genetics 162, 2025 (2002)), in closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import gammaln
from scipy.stats import f as fisher

from nearedge_db.errors import UserError
from nearedge_services.inference.library import SHARES, Library

Array = npt.NDArray[np.float64]


class InferenceSettings(BaseModel):
    """How a spectrum is turned into a posterior. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    components: int = Field(default=5, ge=1)
    """Principal components of the spectra that are used."""
    degree: int = Field(default=2, ge=1, le=4)
    """Degree of the polynomials of the density."""
    grid_step_g_cm3: float = Field(default=0.01, gt=0)
    """Step of the grid of densities, g/cm³."""
    density_g_cm3: tuple[float, float] | None = None
    """Range of the flat prior of the density; None: that of the library."""
    temper: float = Field(default=1.0, gt=0, le=1)
    """Power of the likelihood of the density: below one where the regression is too sure of itself, because the
    covariance changes with the density or the polynomials do not follow."""
    draws: int = Field(default=4000, ge=100)
    """Random draws from the posterior of a share."""


@dataclass(frozen=True)
class Interval:
    """Median and the central interval of one quantity."""

    median: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the interval covers a value."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Posterior:
    """What one spectrum says."""

    densities_g_cm3: Array
    """Grid of densities, (D,)."""
    probability: Array
    """Their posterior probabilities, (D,), sum one."""
    share_draws: dict[int, Array]
    """Draws from the posterior of the share of atoms with 2, 3 and 4 neighbours, each (draws,)."""
    typicality: float
    """Probability that a network of the library's kind has a spectrum less likely than this one at its best
    density, 0 to 1; below 0.01 the library does not know such spectra and the intervals mean little."""

    def density(self, confidence: float = 0.9) -> Interval:
        """Posterior median and central interval of the density, g/cm³."""
        cumulative = np.cumsum(self.probability) - self.probability / 2
        tail = (1 - confidence) / 2
        values = np.interp([0.5, tail, 1 - tail], cumulative, self.densities_g_cm3)
        return Interval(*map(float, values))

    def share(self, neighbours: int, confidence: float = 0.9) -> Interval:
        """The same of the share of atoms with 2, 3 or 4 neighbours, 0 to 1."""
        tail = (1 - confidence) / 2
        values = np.quantile(self.share_draws[neighbours], [0.5, tail, 1 - tail])
        return Interval(*map(float, values))


ALIKE = 1e-5
"""Principal components with a smaller share of the largest singular value are rounding."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Mean (G,) of a library's spectra and their principal axes (n, G), those of the largest variance first."""

    mean: Array
    rows: Array

    @classmethod
    def of(cls, library: Library) -> "Axes":
        """By singular value decomposition; axes along which the spectra do not differ are left out."""
        mean = library.spectra.mean(axis=0)
        _, sizes, rows = np.linalg.svd(library.spectra - mean, full_matrices=False)
        return cls(mean, rows[sizes > ALIKE * max(sizes[0], np.finfo(float).tiny)])


class SpectrumInference:
    """A library, ready to be asked about spectra."""

    def __init__(
        self, library: Library, settings: InferenceSettings | None = None, axes: Axes | None = None
    ) -> None:
        """``axes`` are those of the library, where they are known already.

        Raises UserError when the library is too small for the settings, or its networks are too much alike.
        """
        self.settings = settings or InferenceSettings()
        least = self.settings.components + self.settings.degree + 4
        if len(library) < least:
            raise UserError(
                "the library is too small for an inference",
                got=f"{len(library)} networks",
                fix=f"give at least {least}",
            )
        axes = axes or Axes.of(library)
        densities = distinct_densities(library)
        if len(axes.rows) < self.settings.components or densities <= self.settings.degree:
            raise UserError(
                "the networks of the library are too much alike for an inference",
                got=f"{densities} densities, spectra that differ in {len(axes.rows)} ways",
                fix=f"give more than {self.settings.degree} and at least {self.settings.components}",
            )
        self.library = library
        self.mean = axes.mean
        self.basis = axes.rows[: self.settings.components]
        self.range = self.settings.density_g_cm3 or (
            float(library.densities_g_cm3.min()),
            float(library.densities_g_cm3.max()),
        )
        self._regression = _Regression(
            self._features(library.densities_g_cm3), self.components(library.spectra), library.shares
        )

    def components(self, spectra: npt.ArrayLike) -> Array:
        """Principal components (…, K) of cell-mean spectra (…, G) in 1/eV."""
        return np.asarray((np.asarray(spectra, dtype=float) - self.mean) @ self.basis.T)

    def posterior(self, spectrum: npt.ArrayLike, seed: int = 0) -> Posterior:
        """Posterior of density and coordination for one area-normalised cell-mean spectrum (G,), 1/eV."""
        grid, predicted, probability = self._at(spectrum)
        rng = np.random.default_rng(seed)
        places = rng.choice(len(grid), size=self.settings.draws, p=probability)
        noise = rng.standard_t(predicted.share_freedom, size=(self.settings.draws, len(SHARES)))
        draws = predicted.share_mean[places] + noise * predicted.share_scale[places]
        return Posterior(
            densities_g_cm3=grid,
            probability=probability,
            share_draws={number: np.clip(draws[:, k], 0.0, 1.0) for k, number in enumerate(SHARES)},
            typicality=self.typicality(spectrum),
        )

    def typicality(self, spectrum: npt.ArrayLike) -> float:
        """What `Posterior.typicality` tells, of one spectrum (G,)."""
        _, predicted, _ = self._at(spectrum)
        return float(fisher.sf(predicted.ratio.min(), self.settings.components, predicted.freedom))

    def log_probability(self, spectrum: npt.ArrayLike, density_g_cm3: float) -> float:
        """Logarithm of the posterior probability density, per g/cm³, of one density."""
        grid, _, probability = self._at(spectrum)
        value = float(np.interp(density_g_cm3, grid, probability / (grid[1] - grid[0])))
        return math.log(max(value, 1e-12))

    def _at(self, spectrum: npt.ArrayLike) -> "tuple[Array, _Predicted, Array]":
        """Grid of densities (D,), what the regression predicts there, and the posterior probabilities (D,)."""
        low, high = self.range
        grid = np.linspace(low, high, max(round((high - low) / self.settings.grid_step_g_cm3), 1) + 1)
        predicted = self._regression.predict(self._features(grid), self.components(spectrum))
        log = self.settings.temper * (predicted.log_density - predicted.log_density.max())
        return grid, predicted, np.exp(log) / np.exp(log).sum()

    def _features(self, densities_g_cm3: Array) -> Array:
        """Legendre polynomials (n, degree + 1) of densities scaled to the library's range."""
        low, high = self.library.densities_g_cm3.min(), self.library.densities_g_cm3.max()
        scaled = 2 * (np.asarray(densities_g_cm3, dtype=float) - low) / (high - low) - 1
        return np.polynomial.legendre.legvander(scaled, self.settings.degree)


@dataclass(frozen=True)
class _Predicted:
    """The regression's answer for one spectrum on D densities."""

    log_density: Array
    """Logarithm of t(z; ρ) up to a constant, (D,)."""
    ratio: Array
    """Squared Mahalanobis distance of z over K, (D,): F-distributed for networks like the library's."""
    freedom: float
    """Degrees of freedom of t(z; ρ), the second ones of that F distribution."""
    share_mean: Array
    """Location of t(c | z, ρ), (D, 3)."""
    share_scale: Array
    """Its scale, (D, 3)."""
    share_freedom: float
    """Its degrees of freedom."""


class _Regression:
    """Multivariate regression of components and shares on features of the density, with t predictions."""

    def __init__(self, features: Array, components: Array, shares: Array) -> None:
        self.samples, self.terms = features.shape
        self.size = components.shape[1]
        self.inverse = np.linalg.inv(features.T @ features)
        self.b_z, self.b_c = (self.inverse @ features.T @ y for y in (components, shares))
        left_z, left_c = components - features @ self.b_z, shares - features @ self.b_c
        self.s_zz = left_z.T @ left_z
        self.gain = np.linalg.solve(self.s_zz, left_z.T @ left_c)
        self.s_cc = ((left_c - left_z @ self.gain) ** 2).sum(axis=0)

    def predict(self, features: Array, components: Array) -> _Predicted:
        """Predictions for features (D, p) and one set of components (K,)."""
        leverage = 1 + np.einsum("dp,pq,dq->d", features, self.inverse, features)
        freedom = self.samples - self.terms - self.size + 1
        difference = components - features @ self.b_z
        square = np.einsum("dk,dk->d", difference, np.linalg.solve(self.s_zz, difference.T).T) / leverage
        log = (
            -0.5 * self.size * np.log(leverage)
            - 0.5 * (freedom + self.size) * np.log1p(square)
            + gammaln((freedom + self.size) / 2)
        )
        # With one share beside z the joint t has one degree of freedom less; K more once z is given.
        share_freedom = float(freedom - 1 + self.size)
        scale = np.sqrt(leverage[:, None] * (1 + square[:, None]) * self.s_cc / share_freedom)
        return _Predicted(
            log_density=log,
            ratio=square * freedom / self.size,
            freedom=float(freedom),
            share_mean=features @ self.b_c + difference @ self.gain,
            share_scale=scale,
            share_freedom=share_freedom,
        )


def distinct_densities(library: Library) -> int:
    """How many densities a library has that differ by 0.01 g/cm³."""
    return len(np.unique(library.densities_g_cm3.round(2)))


@dataclass(frozen=True, eq=False)
class Fold:
    """The frames of one group, and the library without them."""

    left_out: tuple[int, ...]
    library: Library
    axes: Axes


def folds(library: Library) -> list[Fold]:
    """Every group left out once."""
    found = []
    for group in dict.fromkeys(library.groups):
        left_out = tuple(k for k, other in enumerate(library.groups) if other == group)
        rest = library.subset([k for k in range(len(library)) if k not in left_out])
        found.append(Fold(left_out, rest, Axes.of(rest)))
    return found


def leave_one_out(
    library: Library, settings: InferenceSettings | None = None, seed: int = 0
) -> list[Posterior]:
    """The posterior of every network from a library without it and without the frames of its group."""
    posteriors: dict[int, Posterior] = {}
    for fold in folds(library):
        inference = SpectrumInference(fold.library, settings, fold.axes)
        for index in fold.left_out:
            posteriors[index] = inference.posterior(library.spectra[index], seed + index)
    return [posteriors[index] for index in range(len(library))]


@dataclass(frozen=True)
class Recovery:
    """How well truths were recovered: root mean square error, largest error, share inside the intervals."""

    rmse: float
    largest: float
    coverage: float
    mean_width: float


def recovery(intervals: Sequence[Interval], truths: npt.ArrayLike) -> Recovery:
    """Errors of the medians and coverage of the intervals against true values, in their unit."""
    values = np.asarray(truths, dtype=float)
    errors = np.array([interval.median for interval in intervals]) - values
    inside = [interval.holds(float(value)) for interval, value in zip(intervals, values, strict=True)]
    widths = [interval.high - interval.low for interval in intervals]
    return Recovery(
        float(np.sqrt(np.mean(errors**2))),
        float(np.abs(errors).max()),
        float(np.mean(inside)),
        float(np.mean(widths)),
    )

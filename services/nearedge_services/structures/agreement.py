"""How far two ensembles of structures differ, beside how far members of one of them differ anyway."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from scipy.stats import beta

from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.rdf import radial_distribution

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurveAgreement:
    """Curves of one ensemble against those of a reference, all of single structures.

    With m(f, g) the mean square difference of two curves, ``between``² is the mean of m over all pairs of one
    generated and one reference structure, ``within``² the mean of m over all pairs of different reference
    structures. Both compare single structures, so ensemble sizes do not enter: their expectations are
    b² + v_gen + v_ref and 2 v_ref for the square b² of the systematic difference and the variances v of a
    single structure. ``bias``² is the unbiased estimate of b² (zero where the noise hides it).
    """

    between: float
    within: float | None
    """None for fewer than two references."""
    bias: float | None
    """None for fewer than two structures on a side."""

    @property
    def ratio(self) -> float | None:
        """``between`` over ``within``: 1 when the ensembles are alike; None without two references."""
        return None if not self.within else self.between / self.within


def compare_curves(generated: npt.ArrayLike, reference: npt.ArrayLike) -> CurveAgreement:
    """Agreement of curves (n, X) and (m, X). Raises ValueError for an empty side or unequal lengths."""
    ours, theirs = np.asarray(generated, dtype=float), np.asarray(reference, dtype=float)
    if not len(ours) or not len(theirs) or ours.shape[1:] != theirs.shape[1:]:
        raise ValueError(f"curves of the shapes {ours.shape} and {theirs.shape}")
    between = float(np.mean((ours[:, None] - theirs[None]) ** 2))
    v_ours, v_theirs = (_variance(side) for side in (ours, theirs))
    bias = None
    if v_ours is not None and v_theirs is not None:
        square = np.mean((ours.mean(axis=0) - theirs.mean(axis=0)) ** 2)
        bias = float(np.sqrt(max(square - v_ours / len(ours) - v_theirs / len(theirs), 0.0)))
    within = None if v_theirs is None else float(np.sqrt(2 * v_theirs))
    return CurveAgreement(float(np.sqrt(between)), within, bias)


def _variance(curves: Array) -> float | None:
    return float(curves.var(axis=0, ddof=1).mean()) if len(curves) > 1 else None


_R_MAX_A, _BINS = 6.0, 120

RADII_A: Array = (np.arange(_BINS) + 0.5) * _R_MAX_A / _BINS
"""Bin centres (120,) of `radial_curves`, Å."""


def radial_curves(structures: Sequence[Atoms]) -> Array:
    """g(r) of every structure at `RADII_A`, smeared by 0.05 Å, shape (n, 120)."""
    return np.array([radial_distribution([atoms], _R_MAX_A, _BINS)[1] for atoms in structures])


def coordination_shares(structures: Sequence[Atoms], folds: Sequence[int] = (2, 3, 4)) -> Array:
    """Shares of the atoms with so many neighbours in every structure, shape (n, number of folds)."""
    least = max(folds) + 1
    counts = [
        np.bincount(coordination_numbers(atoms), minlength=least)[list(folds)] / len(atoms)
        for atoms in structures
    ]
    return np.array(counts).reshape(-1, len(folds))


@dataclass(frozen=True)
class ShareDifference:
    """Difference of mean shares of atoms with so many neighbours, in points."""

    points: Array
    """Generated minus reference, one for each number of neighbours."""
    error: Array
    """Standard errors of them from the scatter between structures; NaN for a side with one structure."""

    @property
    def largest(self) -> float:
        """Largest difference without its sign, points."""
        return float(np.abs(self.points).max())


def compare_shares(generated: Array, reference: Array) -> ShareDifference:
    """Difference of `coordination_shares` (n, F) and (m, F)."""
    points = 100 * (generated.mean(axis=0) - reference.mean(axis=0))
    errors = [100 * _standard_error(side) for side in (generated, reference)]
    return ShareDifference(points, np.hypot(*errors))


def _standard_error(shares: Array) -> Array:
    if len(shares) < 2:
        return np.full(shares.shape[1], np.nan)
    return np.asarray(shares.std(axis=0, ddof=1) / np.sqrt(len(shares)))


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a share (Clopper and Pearson, Biometrika 26, 404 (1934)).

    Raises ValueError unless 0 ≤ successes ≤ trials and there is a trial.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} trials")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high

"""How good a potential is on structures it has not seen, and how well it knows that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from nearedge_services.potential.dataset import labelled_frames
from nearedge_services.potential.potential import Calibration, Potential, Spread

if TYPE_CHECKING:
    from ase import Atoms

_SMALLEST_SPREAD = 1e-9
_QUANTILE_90 = 1.4434  # of √(χ²₃/3): the root mean square of three normal components


@dataclass(frozen=True)
class _Errors:
    """Errors and raw spreads: per structure energy (S,) eV/atom; per atom force, root mean square
    component, eV/Å.
    """

    energy: npt.NDArray[np.float64]
    energy_spread: npt.NDArray[np.float64]
    force: npt.NDArray[np.float64]
    force_absolute: float
    force_spread: npt.NDArray[np.float64]


def evaluate_potential(potential: Potential, held_out: Sequence["Atoms"]) -> dict[str, float]:
    """Held-out metrics of the committee mean.

    `force_rmse_ev_per_a` and `force_mae_ev_per_a` over components; `energy_mae_ev_per_atom` and
    `energy_rmse_ev_per_atom` of the total energies; `energy_residual_ev_per_atom` is the mean absolute
    error after the mean error is taken away, which is what ranking needs. `force_spread_correlation`
    (Spearman, over atoms) tells whether the committee disagrees where it is wrong; `force_coverage_90` is
    the share of atoms whose error a normal distribution of the calibrated width would contain in 90 of 100
    cases. Raises UserError for missing labels and unknown elements.
    """
    errors = _errors(potential, held_out)
    calibrated = potential.calibration.force.std(errors.force_spread)
    return {
        "force_rmse_ev_per_a": float(np.sqrt(np.mean(errors.force**2))),
        "force_mae_ev_per_a": errors.force_absolute,
        "energy_mae_ev_per_atom": float(np.abs(errors.energy).mean()),
        "energy_rmse_ev_per_atom": float(np.sqrt(np.mean(errors.energy**2))),
        "energy_residual_ev_per_atom": float(np.abs(errors.energy - errors.energy.mean()).mean()),
        "force_spread_correlation": _rank_correlation(errors.force_spread, errors.force),
        "energy_spread_correlation": _rank_correlation(errors.energy_spread, np.abs(errors.energy)),
        "force_coverage_90": float(np.mean(errors.force <= _QUANTILE_90 * calibrated)),
        "held_out_structures": float(len(held_out)),
    }


def calibrate(potential: Potential, held_out: Sequence["Atoms"]) -> Calibration:
    """How to read the committee's spread, from its errors on held-out structures.

    A committee of one has no spread: its standard deviation is the size of the held-out errors.
    """
    errors = _errors(potential, held_out)
    return Calibration(
        energy=_fit(errors.energy, errors.energy_spread), force=_fit(errors.force, errors.force_spread)
    )


def _errors(potential: Potential, held_out: Sequence["Atoms"]) -> _Errors:
    frames = labelled_frames(held_out)
    outputs = potential.evaluate(frames)
    differences = [
        o.forces.mean(axis=0) - a.arrays["REF_forces"] for o, a in zip(outputs, frames, strict=True)
    ]
    stacked = np.concatenate(differences)
    return _Errors(
        energy=np.array(
            [
                (o.energies.mean() - a.info["REF_energy"]) / len(a)
                for o, a in zip(outputs, frames, strict=True)
            ]
        ),
        energy_spread=np.array([o.energy_spread() for o in outputs]),
        force=np.sqrt((stacked**2).mean(axis=-1)),
        force_absolute=float(np.abs(stacked).mean()),
        force_spread=np.concatenate([o.force_spread() for o in outputs]),
    )


def _fit(error: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]) -> Spread:
    """Least squares of error² = floor² + factor² spread² with the means of both sides equal.

    The factor is at least one, unless the spread alone is larger than the errors: where the members disagree
    more than anywhere in the held-out set, that must show even if within it their spread says little.
    """
    errors, spreads = error**2, spread**2
    mean_error, mean_spread = float(errors.mean()), float(spreads.mean())
    if mean_spread < _SMALLEST_SPREAD**2:
        return Spread(floor=float(np.sqrt(mean_error)))
    most = mean_error / mean_spread
    variance = float(spreads.var())
    slope = (
        float(np.mean((spreads - mean_spread) * (errors - mean_error))) / variance if variance > 0 else most
    )
    squared = min(max(slope, 1.0), most)
    return Spread(
        floor=float(np.sqrt(max(mean_error - squared * mean_spread, 0.0))), factor=float(np.sqrt(squared))
    )


def _rank_correlation(spread: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float:
    """Spearman's correlation; 0 where one of the two does not vary."""
    if len(spread) < 3 or np.ptp(spread) < _SMALLEST_SPREAD or np.ptp(error) < _SMALLEST_SPREAD:
        return 0.0
    return float(spearmanr(spread, error).statistic)

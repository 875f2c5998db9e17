"""How good a surrogate is on structures it has not seen."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from scipy.stats import norm

from nearedge_services.surrogate.baseline import baseline_spectra
from nearedge_services.surrogate.calibration import IntervalScale
from nearedge_services.surrogate.dataset import LabelledStructure, read_structures
from nearedge_services.surrogate.held_out import HeldOutCase, distance_errors, held_out_cases
from nearedge_services.surrogate.surrogate import Surrogate


def evaluate_surrogate(surrogate: Surrogate, held_out: Sequence[Atoms]) -> dict[str, float]:
    """Errors on labelled structures, with the surrogate's own calibration.

    ``cell_mean_rmse`` (1/eV, the headline) and ``per_atom_mse`` ((1/eV)²) of the ensemble mean, both with the
    ``…_baseline`` of the mean over equally coordinated training atoms and the ``…_global`` of the mean over
    all training atoms of the element; ``cell_mean_spread``, the RMS deviation of the true cell means from
    their mean (1/eV); ``distance_mae`` and ``distance_bias`` (expected minus true, 1/eV) over pairs of
    structures; ``coverage_90`` and ``distance_coverage_90``, shares within 90 % intervals; ``std_mean``, mean
    calibrated standard deviation of the cell mean (1/eV).
    Raises UserError for unlabelled structures, other grids or elements.
    """
    structures = read_structures(held_out, surrogate.elements, surrogate.grid)
    cases = held_out_cases(
        surrogate.network, structures, surrogate.elements, surrogate.absorbers, surrogate.grid
    )
    return _cell_mean_metrics(cases, surrogate) | _atom_metrics(structures, surrogate)


def reliability(surrogate: Surrogate, held_out: Sequence[Atoms], levels: Sequence[float]) -> list[float]:
    """Share of the points of the true cell means within the central intervals of each level (0 to 1).

    Raises as ``evaluate_surrogate``.
    """
    structures = read_structures(held_out, surrogate.elements, surrogate.grid)
    cases = held_out_cases(
        surrogate.network, structures, surrogate.elements, surrogate.absorbers, surrogate.grid
    )
    scale = surrogate.calibration.spectrum
    ratios = np.abs(np.array([case.error / scale.std(case.spread) for case in cases]))
    return [float(np.mean(ratios <= norm.ppf(0.5 + 0.5 * level))) for level in levels]


def _cell_mean_metrics(cases: Sequence[HeldOutCase], surrogate: Surrogate) -> dict[str, float]:
    errors, spreads, true = (
        np.array([getattr(c, name) for c in cases]) for name in ("error", "spread", "true")
    )
    scale = surrogate.calibration.spectrum
    pairs = [distance_errors(case, cases, surrogate.calibration, surrogate.grid) for case in cases]
    error, std = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return {
        "cell_mean_rmse": float(np.sqrt(np.mean(errors**2))),
        "cell_mean_rmse_baseline": float(np.sqrt(np.mean([(c.baseline - c.true) ** 2 for c in cases]))),
        "cell_mean_rmse_global": float(np.sqrt(np.mean([(c.typical - c.true) ** 2 for c in cases]))),
        "cell_mean_spread": float(np.sqrt(np.mean((true - true.mean(0)) ** 2))),
        "coverage_90": float(np.mean(scale.covers(errors, spreads))),
        "std_mean": float(np.mean(scale.std(spreads))),
        "distance_mae": float(np.mean(np.abs(error))),
        "distance_bias": float(np.mean(error)),
        "distance_coverage_90": float(np.mean(np.abs(error) <= IntervalScale.HALF_WIDTH_90 * std)),
    }


def _atom_metrics(structures: Sequence[LabelledStructure], surrogate: Surrogate) -> dict[str, float]:
    unit = float(surrogate.grid.weights.sum())
    squares, baseline, overall = [], [], []
    for structure, spectra in zip(
        structures, surrogate.atom_spectra([s.atoms for s in structures]), strict=True
    ):
        true = structure.spectra[structure.labelled] / unit
        mean = torch.as_tensor(spectra.mean(0))[structure.labelled]
        species = surrogate.batch([structure.atoms]).species.cpu()
        table = surrogate.network.coordination_means.cpu()
        simple = baseline_spectra(table, structure.atoms, species)[structure.labelled] / unit
        squares.append((mean - true).square().mean(-1))
        baseline.append((simple - true).square().mean(-1))
        typical = surrogate.network.means.cpu()[species][structure.labelled] / unit
        overall.append((typical - true).square().mean(-1))
    return {
        "per_atom_mse": float(torch.cat(squares).mean()),
        "per_atom_mse_baseline": float(torch.cat(baseline).mean()),
        "per_atom_mse_global": float(torch.cat(overall).mean()),
    }

"""Figures of the bench ``surrogate``: what is measured on a lot of structures, and the rows of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import Row
from nearedge_services.surrogate.evaluation import evaluate_surrogate, reliability
from nearedge_services.surrogate.surrogate import Surrogate

RATIO = 0.5
"""Largest error in units of that of the mean over equally coordinated atoms."""

COVERAGE = (0.85, 0.95)
"""What 90 % intervals must cover."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Of the reliability curve."""

MILLI = 1e3
UNIT = "10⁻³/eV"


@dataclass(frozen=True)
class Lot:
    """Labelled structures of one origin."""

    name: str
    structures: list[Atoms]

    def measure(self, surrogate: Surrogate) -> dict[str, Any]:
        """Metrics of ``evaluate_surrogate`` with per-atom errors as root mean squares, and the reliability."""
        metrics = evaluate_surrogate(surrogate, self.structures)
        roots = {
            name.replace("_mse", "_rmse"): float(np.sqrt(metrics.pop(name)))
            for name in [name for name in metrics if name.startswith("per_atom_mse")]
        }
        covered = reliability(surrogate, self.structures, LEVELS)
        return {"structures": len(self.structures), **metrics, **roots, "levels": LEVELS, "covered": covered}


def rows(
    lots: Mapping[str, Mapping[str, Any]],
    noise: Sequence[Mapping[str, float]] | None,
    speed: Mapping[str, float | None],
    refitted: Mapping[str, Any] | None,
) -> list[Row]:
    """The table: errors beside baselines, coverage, noise-aware errors, milliseconds."""
    table = [row for name, lot in lots.items() for row in (*_errors(name, lot), *_coverage(name, lot))]
    if refitted:
        table += _coverage("generated, after learning from others", refitted)
    for line in noise or ():
        what = f"cell mean expected from positions with noise of {line['sigma_a']:g} Å"
        error, spread = MILLI * line["cell_mean_rmse"], MILLI * line["cell_mean_spread"]
        table.append(Row.shown(what, error, UNIT, baseline=spread))
    atoms = speed["atoms"]
    for name, words in (
        ("prediction", "prediction with all members"),
        ("gradient", "gradient for guidance"),
        ("noise_aware_gradient", "gradient for noise-aware guidance"),
    ):
        table.append(Row.shown(f"{words}, {atoms:g} atoms", speed[name], "ms"))
    return table


def _errors(name: str, lot: Mapping[str, Any]) -> list[Row]:
    table = []
    for key, words in (("per_atom_rmse", "per-atom error"), ("cell_mean_rmse", "cell-mean error")):
        error, simple, overall = (MILLI * lot[k] for k in (key, f"{key}_baseline", f"{key}_global"))
        table.append(Row.at_most(f"{words}, {name}", error, RATIO * simple, UNIT, baseline=simple))
        table.append(Row.shown("  beside the mean over all atoms", error, UNIT, baseline=overall))
    return table


def _coverage(name: str, lot: Mapping[str, Any]) -> list[Row]:
    low, high = COVERAGE
    what, share = f"90 % intervals cover, {name}", 100 * lot["coverage_90"]
    return [
        Row.at_least(what, share, 100 * low, "%", baseline=90.0),
        Row.at_most(what, share, 100 * high, "%", baseline=90.0),
        Row.shown(f"  of distances, {name}", 100 * lot["distance_coverage_90"], "%", baseline=90.0),
    ]

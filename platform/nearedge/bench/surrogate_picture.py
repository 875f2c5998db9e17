"""The picture of the bench ``surrogate``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.report.style import ACCENT, GUIDED, GUIDED_SOFT, MILLI, MUTED, SEED, TARGET, UNGUIDED

_COLOURS = (GUIDED, "#2f9e6e", UNGUIDED, ACCENT)


def draw(result: BenchResult, path: Path) -> None:
    """Errors beside baselines, the reliability of the intervals, and one spectrum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.8), layout="constrained")
    errors, curves, spectrum = figure.subplots(1, 3, width_ratios=(1.25, 1, 1.1))
    lots = dict(result.data["lots"])
    _errors(errors, lots)
    _reliability(curves, lots)
    _spectrum(spectrum, dict(result.data["example"]))
    figure.suptitle("Spectra predicted against spectra computed")
    figure.savefig(path, dpi=130)


def _errors(axis: Any, lots: dict[str, Any]) -> None:
    groups = [(key, name) for key in ("per_atom_rmse", "cell_mean_rmse") for name in lots]
    places = np.arange(len(groups))[::-1]
    for suffix, colour, label, shift in (
        ("_global", SEED, "mean over all atoms", -0.27),
        ("_baseline", UNGUIDED, "mean over equally coordinated atoms", 0.0),
        ("", GUIDED, "surrogate", 0.27),
    ):
        values = [MILLI * lots[name][key + suffix] for key, name in groups]
        axis.barh(places + shift, values, height=0.25, color=colour, label=label)
    words = {"per_atom_rmse": "per atom", "cell_mean_rmse": "cell mean"}
    axis.set_yticks(places, [f"{words[key]}: {name}" for key, name in groups], fontsize=8)
    axis.set(xlabel="RMS error (10⁻³ per eV)")
    axis.legend(fontsize=8)


def _reliability(axis: Any, lots: dict[str, Any]) -> None:
    axis.plot([0, 100], [0, 100], color=MUTED, lw=1)
    axis.fill_between([88, 92], 85, 95, color=GUIDED_SOFT, alpha=0.6, lw=0)
    for (name, lot), colour in zip(lots.items(), _COLOURS, strict=False):
        levels, covered = (100 * np.asarray(lot[key], dtype=float) for key in ("levels", "covered"))
        axis.plot(levels, covered, "o-", ms=3, color=colour, label=name)
    axis.set(xlabel="interval (%)", ylabel="truths inside (%)", xlim=(0, 100), ylim=(0, 100))
    axis.legend(fontsize=8, loc="upper left")


def _spectrum(axis: Any, example: dict[str, Any]) -> None:
    energies, predicted, std = (
        np.asarray(example[key], dtype=float) for key in ("energies_ev", "predicted", "std")
    )
    axis.fill_between(
        energies, predicted - 1.645 * std, predicted + 1.645 * std, color=GUIDED_SOFT, lw=0, label="90 %"
    )
    axis.plot(energies, predicted, color=GUIDED, label="predicted")
    axis.plot(energies, example["true"], color=TARGET, lw=1, ls="--", label="computed")
    axis.set(
        xlabel="energy (eV)",
        ylabel="cell mean (1/eV)",
        title=f"a network of {example['density_g_cm3']:.2f} g/cm³",
    )
    axis.legend(fontsize=8)

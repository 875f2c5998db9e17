"""The picture of the bench ``steering``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.report.style import GUIDED, MILLI, SEED, UNGUIDED

_KIND_COLOURS = {
    "surrogate": GUIDED,
    "noise-aware": "#2f9e6e",
    "classifier-free": "#b3261e",
    "both": "#6b4fa3",
}


def draw(result: BenchResult, path: Path) -> None:
    """Distance, four-fold share, energy and contact against strength; targets; inferred against true density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.5), layout="constrained")
    axes = figure.subplots(2, 3)
    curve = list(result.data["curve"])
    _draw_distance(axes[0, 0], curve)
    base = curve[0]["raw"]["energy_ev_per_atom"]
    _draw_curve(
        axes[0, 1], curve, lambda r: r["energy_ev_per_atom"] - base, "energy above unguided, raw (eV/atom)"
    )
    _draw_curve(axes[1, 0], curve, _four_fold, "four-fold atoms, raw (%)")
    _draw_curve(axes[1, 1], curve, lambda r: r["shortest_contact_a"], "shortest contact, raw (Å)")
    _draw_steered(axes[0, 2], list(result.data["steered"]))
    _draw_inference(axes[1, 2], list(result.data["inference"]["references"]))
    figure.suptitle("Steering by a spectrum in a fixed cell")
    figure.savefig(path, dpi=130)


def _four_fold(record: dict[str, Any]) -> float:
    return 100 * float(np.asarray(record["shares"], dtype=float)[2])


def _draw_curve(axis: Any, curve: list[dict[str, Any]], value: Any, label: str, name: str = "raw") -> None:
    for kind, colour in _KIND_COLOURS.items():
        points = [point for point in curve if point["kind"] == kind and point[name] is not None]
        if points:
            scales = [point["scale"] for point in points]
            axis.plot(scales, [value(point[name]) for point in points], "o-", color=colour, label=kind)
    axis.axhline(value(curve[0]["raw"]), color=UNGUIDED, ls="--", label="unguided")
    axis.set(xlabel="guidance scale", ylabel=label, xscale="log")
    axis.legend(fontsize=8)


def _draw_distance(axis: Any, curve: list[dict[str, Any]]) -> None:
    """By the oracle (full), by the judge (dashed) and as the guide promises (dotted)."""
    for kind, colour in _KIND_COLOURS.items():
        points = [point for point in curve if point["kind"] == kind]
        for key, style in (("distance", "o-"), ("judged_distance", "--"), ("promised_distance", ":")):
            values = [point["raw"][key] for point in points]
            if points and None not in values:
                scales = [point["scale"] for point in points]
                label = kind if key == "distance" else None
                axis.plot(scales, MILLI * np.array(values), style, color=colour, label=label)
    axis.axhline(MILLI * curve[0]["raw"]["distance"], color=UNGUIDED, ls="--", label="unguided")
    axis.set(
        xlabel="guidance scale",
        ylabel="distance, raw (10⁻³ per eV)",
        xscale="log",
        title="oracle –o–, judge – –, guide's own ···",
    )
    axis.legend(fontsize=8)


def _draw_steered(axis: Any, steered: list[dict[str, Any]]) -> None:
    for number, record in enumerate(steered):
        sets = (
            (record["unguided"]["refined"], UNGUIDED, "unguided, refined"),
            (record["refinement_alone"], SEED, "spectral term in the refinement alone"),
            (record["guided"]["refined"], GUIDED, "guided, refined"),
        )
        for shift, (verdict, colour, label) in enumerate(sets):
            distances = [] if verdict is None else verdict["distances"]
            values = MILLI * np.array(distances, dtype=float)
            place = number + 0.2 * (shift - 1)
            axis.plot(
                np.full(len(values), place),
                values,
                "o",
                color=colour,
                label=None if number else label,
                alpha=0.7,
            )
    names = [f"{record['cell_g_cm3']:g} → {record['target_g_cm3']:g}" for record in steered]
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set(ylabel="oracle distance (10⁻³ per eV)", xlabel="cell → target (g/cm³)", ylim=(0, None))
    axis.legend(fontsize=8)


def _draw_inference(axis: Any, references: list[dict[str, Any]]) -> None:
    truths = np.array([record["density_g_cm3"] for record in references])
    low, middle, high = np.array([record["density_interval"] for record in references]).T
    axis.errorbar(truths, middle, [middle - low, high - middle], fmt="o", color=GUIDED, capsize=3)
    ends = np.array([1.4, 3.6])
    axis.plot(ends, ends, color=SEED)
    axis.fill_between(ends, ends - 0.15, ends + 0.15, color=SEED, alpha=0.25)
    axis.set(xlabel="true density (g/cm³)", ylabel="from the spectrum alone (90 % intervals)")

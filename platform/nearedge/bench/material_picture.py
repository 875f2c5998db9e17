"""The picture of the bench ``material``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench import limits
from nearedge.bench.base import BenchResult
from nearedge.report.style import ACCENT, COORDINATION_COLOURS, GUIDED, SEED, UNGUIDED
from nearedge_services.structures.agreement import RADII_A


def draw(result: BenchResult, path: Path) -> None:
    """g(r) at every density, coordination against density, energies against density."""
    from matplotlib.figure import Figure

    points = list(result.data["points"])
    figure = Figure(figsize=(14, 5), layout="constrained")
    axes = figure.subplots(1, 3)
    _draw_g_r(axes[0], points)
    _draw_shares(axes[1], points)
    _draw_energies(axes[2], points)
    figure.suptitle(
        f"{result.data['unit']} from nothing: generated structures against the pipeline's own networks"
    )
    figure.savefig(path, dpi=130)


def _draw_g_r(axis: Any, points: list[dict[str, Any]]) -> None:
    styles = (
        ("rested", SEED, "-", 3.0),
        ("random", ACCENT, ":", 1.2),
        ("raw", UNGUIDED, "--", 1.2),
        ("refined", GUIDED, "-", 1.4),
    )
    highest = 0.0
    for number, point in enumerate(points):
        for name, colour, style, width in styles:
            if name in point["g_r"]:
                curve = np.asarray(point["g_r"][name]) + 4.0 * number
                highest = max(highest, float(curve.max()))
                label = {"rested": "reference, refined", "random": "random starts refined"}.get(name, name)
                axis.plot(RADII_A, curve, style, color=colour, lw=width, label=None if number else label)
        mark = " (left out)" if point["left_out"] else ""
        axis.text(4.6, 1.6 + 4.0 * number, f"{point['density_g_cm3']:g} g/cm³{mark}", fontsize=8)
    axis.set(xlabel="r (Å)", ylabel="g(r), shifted", xlim=(1.2, 6.0), ylim=(-0.2, highest + 2.5))
    axis.legend(loc="upper right", fontsize=8)


def _draw_shares(axis: Any, points: list[dict[str, Any]]) -> None:
    densities = [point["density_g_cm3"] for point in points]
    sides = (("rested", "_", 18, 2.5), ("refined", "o", 7, 1), ("random", "x", 7, 1.5))
    for k, fold in enumerate(points[0]["folds"]):
        for name, marker, size, edge in sides:
            values = [
                100 * np.asarray(point["shares"][name])[k] if name in point["shares"] else np.nan
                for point in points
            ]
            axis.plot(
                densities,
                values,
                marker,
                color=COORDINATION_COLOURS[fold],
                ms=size,
                mew=edge,
                label=f"{fold}-fold" if name == "refined" else None,
            )
    title = "Refined (dashes: references, crosses: random starts)"
    axis.set(xlabel="density (g/cm³)", ylabel="share of atoms (%)", title=title)
    axis.title.set_fontsize(9)
    axis.legend(fontsize=8)


def _draw_energies(axis: Any, points: list[dict[str, Any]]) -> None:
    densities = [point["density_g_cm3"] for point in points]
    for name, colour, label in (("raw", UNGUIDED, "raw"), ("refined", GUIDED, "both refined")):
        values = [point["above_ev_per_atom"][name] for point in points]
        axis.plot(densities, values, "o-", color=colour, label=label)
    for limit in (limits.REFINED_ENERGY_EV, limits.RAW_ENERGY_EV):
        axis.axhline(limit, color=SEED, lw=1, ls="--")
    axis.set(
        xlabel="density (g/cm³)",
        ylabel="median energy above reference (eV/atom)",
        title="Energy by the oracle (dashed: limits)",
    )
    axis.legend(fontsize=8)

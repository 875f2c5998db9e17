"""The picture of the bench ``generation``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench import limits
from nearedge.bench.base import BenchResult
from nearedge.report.style import COORDINATION_COLOURS, GUIDED, SEED, UNGUIDED
from nearedge_services.structures.agreement import RADII_A


def draw(result: BenchResult, path: Path) -> None:
    """g(r) at every density, coordination and energy against density, evaluations against quality."""
    from matplotlib.figure import Figure

    points = list(result.data["points"])
    smallest = min(point["atoms"] for point in points)
    shown = [point for point in points if point["atoms"] == smallest]
    figure = Figure(figsize=(13, 8.5), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_g_r(axes[0, 0], shown)
    _draw_shares(axes[0, 1], points)
    _draw_energies(axes[1, 0], points)
    _draw_evaluations(axes[1, 1], list(result.data["evaluations"]))
    figure.suptitle("Unguided structures against independent reference networks")
    figure.savefig(path, dpi=130)


def _draw_g_r(axis: Any, points: list[dict[str, Any]]) -> None:
    for number, point in enumerate(points):
        curves = point["g_r"]
        for name, colour, style in (
            ("reference", SEED, "-"),
            ("raw", UNGUIDED, ":"),
            ("refined", GUIDED, "-"),
        ):
            if name in curves:
                axis.plot(
                    RADII_A,
                    np.asarray(curves[name]) + 3.5 * number,
                    style,
                    color=colour,
                    lw=2.5 if name == "reference" else 1.2,
                    label=name if number == 0 else None,
                )
        mark = " (left out)" if point["left_out"] else ""
        axis.text(6.05, 1 + 3.5 * number, f"{point['density_g_cm3']:g} g/cm³{mark}", fontsize=8)
    axis.set(xlabel="r (Å)", ylabel="g(r), shifted", xlim=(1, 7.6), title=f"{points[0]['atoms']} atoms")
    axis.set_ylim(-0.2, 3.5 * len(points) + 6)
    axis.legend(loc="upper right", fontsize=8)


def _draw_shares(axis: Any, points: list[dict[str, Any]]) -> None:
    for marker, atoms in zip("osD^", sorted({point["atoms"] for point in points}), strict=False):
        same = [point for point in points if point["atoms"] == atoms]
        densities = [point["density_g_cm3"] for point in same]
        for k, number in enumerate((2, 3, 4)):
            colour = COORDINATION_COLOURS[number]
            for name, filled in (("refined", True), ("reference", False)):
                values = [100 * np.asarray(point["shares"][name])[k] for point in same]
                axis.plot(
                    densities,
                    values,
                    marker if filled else "_",
                    color=colour,
                    ms=6 if filled else 16,
                    mew=1 if filled else 2.5,
                    label=f"{number}-fold, {atoms} atoms" if filled else None,
                )
    axis.set(xlabel="density (g/cm³)", ylabel="share of atoms (%)", title="Refined (dashes: reference)")
    axis.legend(fontsize=7)


def _draw_energies(axis: Any, points: list[dict[str, Any]]) -> None:
    for marker, atoms in zip("osD^", sorted({point["atoms"] for point in points}), strict=False):
        same = [point for point in points if point["atoms"] == atoms]
        densities = [point["density_g_cm3"] for point in same]
        for name, colour in (("raw", UNGUIDED), ("refined", GUIDED)):
            values = [point[f"{name}_above_ev_per_atom"] for point in same]
            axis.plot(
                densities,
                values,
                marker + "-",
                color=colour,
                label=f"{name}, {atoms} atoms, {same[0]['judge']}",
            )
    for limit in (limits.REFINED_ENERGY_EV, limits.RAW_ENERGY_EV):
        axis.axhline(limit, color=SEED, lw=1, ls="--")
    axis.set(
        xlabel="density (g/cm³)",
        ylabel="median energy above reference (eV/atom)",
        title="Energy (dashed: limits)",
    )
    axis.legend(fontsize=8)


def _draw_evaluations(axis: Any, table: list[dict[str, Any]]) -> None:
    counts = [row["evaluations"] for row in table]
    axis.plot(
        counts,
        [row["energy_above_reference_ev_per_atom"] for row in table],
        "o-",
        color=UNGUIDED,
        label="energy",
    )
    axis.set(xlabel="network evaluations", ylabel="raw energy above reference (eV/atom)", xscale="log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.set_xticks([], minor=True)
    twin = axis.twinx()
    twin.plot(counts, [row["g_r_ratio"] for row in table], "s-", color=GUIDED, label="g(r) ratio")
    twin.set_ylabel("g(r): generated–reference over reference–reference")
    handles = [*axis.get_lines(), *twin.get_lines()]
    axis.legend(handles, [str(line.get_label()) for line in handles], fontsize=8)
    axis.set_title("What more evaluations buy (raw)")

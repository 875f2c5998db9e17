"""The main panels of the report as one picture (matplotlib): spectra, progress, recovered properties."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nearedge.labelled import PROPERTIES, PROPERTY_TITLES, late, property_range
from nearedge.report.data import ReportData
from nearedge.report.style import (
    ACCENT,
    BEST_COLOURS,
    DISTANCE_TITLE,
    GRID_LINE,
    GUIDED,
    GUIDED_SOFT,
    INK,
    MILLI,
    MUTED,
    ROLE_COLOURS,
    ROLE_NAMES,
    SEED,
    TARGET,
    UNGUIDED,
)
from nearedge_db.states import LabelRole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND_ROOM = 0.25
"""Height of the room for a legend, as a share of the height of what is drawn."""

ROLES = (LabelRole.SEED, LabelRole.BASELINE, LabelRole.GUIDED)
LOOK: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID_LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


def draw(data: ReportData, path: Path) -> None:
    """Draw the picture into ``path`` (PNG); empty panels say why."""
    import matplotlib as mpl

    with mpl.rc_context(LOOK):
        compose(data).savefig(path, dpi=150, format="png", facecolor="white")


def compose(data: ReportData) -> "Figure":
    """The picture, not yet drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subfigures(2, 1, height_ratios=[1.45, 1], squeeze=False)
    top, bottom = rows[:, 0]
    grid = top.add_gridspec(2, 2, height_ratios=[2.6, 1], width_ratios=[1, 1])
    upper = top.add_subplot(grid[0, 0])
    _spectra(upper, top.add_subplot(grid[1, 0], sharex=upper), data)
    _progress(top.add_subplot(grid[:, 1]), data)
    _properties(bottom.subplots(1, len(PROPERTIES), sharey=True), data)
    return figure


def _legend_above(axes: "Axes", *, reverse: bool = False) -> None:
    """A legend in two columns, in room made for it above everything that is drawn."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + LEGEND_ROOM * (high - low))
    axes.legend(loc="upper right", ncols=2, reverse=reverse)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED, style="italic")


def _spectra(upper: "Axes", lower: "Axes", data: ReportData) -> None:
    upper.set_title("Target and discovered spectra")
    upper.tick_params(labelbottom=False)
    upper.set_ylabel("intensity (1/eV)")
    lower.set_ylabel("residual")
    lower.set_xlabel("energy (eV)")
    target = data.target
    if target is None:
        _say(upper, "no target on the oracle's axis yet")
        return
    inside = target.mask
    x, reference = target.energies_ev[inside], target.intensity[inside]
    if target.narrowed:
        upper.axvspan(*target.window_ev, color="#f3f6fa", zorder=0)
    curves = [
        (curve, BEST_COLOURS[rank], "-", 2.2 if rank == 0 else 1.0) for rank, curve in enumerate(data.best)
    ]
    if data.best_seed is not None:
        curves.append((data.best_seed, SEED, ":", 1.8))
    names = {0: "best structure", 1: "next four"} if len(data.best) > 1 else {0: "best structure"}
    for place, (curve, colour, style, width) in reversed(list(enumerate(curves))):
        name = "best starting structure" if style == ":" else names.get(place)
        upper.plot(target.energies_ev, curve.intensity, style, color=colour, lw=width, label=name)
        lower.plot(x, curve.intensity[inside] - reference, style, color=colour, lw=width)
    upper.plot(x, reference, "--", color=TARGET, lw=2, label="target")
    lower.axhline(0, color=TARGET, lw=1)
    _legend_above(upper, reverse=True)


def _progress(axes: "Axes", data: ReportData) -> None:
    axes.set_title("Distance against labels spent")
    axes.set_ylabel(DISTANCE_TITLE)
    axes.set_xlabel("guided labels spent")
    groups = {role: MILLI * np.array([one.spectral_distance for one in data.role(role)]) for role in ROLES}
    if not any(len(values) for values in groups.values()):
        _say(axes, "no label has a distance yet")
        return
    guided = groups[LabelRole.GUIDED]
    width = max(len(guided), data.summary.labels.budget)
    rng = np.random.default_rng(0)
    # Starting structures and unguided samples stand in two strips left of the first guided label.
    places = {LabelRole.SEED: -0.22 * width, LabelRole.BASELINE: -0.09 * width}
    for role, place in places.items():
        if not len(groups[role]):
            continue
        x = place + rng.uniform(-0.03, 0.03, len(groups[role])) * width
        axes.scatter(x, groups[role], s=22, color=ROLE_COLOURS[role], alpha=0.75, label=ROLE_NAMES[role])
    axes.axvline(-0.02 * width, color=MUTED, lw=0.8)
    baseline = groups[LabelRole.BASELINE]
    if len(baseline):
        low, middle, high = np.percentile(baseline, [16, 50, 84])
        axes.axhspan(low, high, color=UNGUIDED, alpha=0.12, lw=0)
        axes.axhline(middle, color=UNGUIDED, lw=1.4, ls="--", label="unguided, median and 68 %")
    if len(guided):
        spent = np.arange(1, len(guided) + 1)
        axes.scatter(spent, guided, s=30, color=GUIDED, label=ROLE_NAMES[LabelRole.GUIDED], zorder=3)
        axes.step(
            spent, np.minimum.accumulate(guided), where="post", color=ACCENT, lw=1.8, label="best so far"
        )
        start = len(guided) - len(late(data.role(LabelRole.GUIDED))) + 0.5
        axes.plot(
            [start, len(guided) + 0.5],
            [np.median(guided[int(start) :])] * 2,
            color=GUIDED,
            lw=3,
            label="median, last third",
        )
    axes.set_xlim(-0.29 * width, width + 1)
    axes.set_ylim(bottom=0)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= width])
    _legend_above(axes)
    summary = data.summary
    if summary.late_over_unguided is not None:
        axes.set_title(
            f"late / unguided {summary.late_over_unguided:.2f}", loc="right", fontweight="normal", fontsize=10
        )


def _properties(row: "np.ndarray", data: ReportData) -> None:
    for axes, name in zip(row, PROPERTIES, strict=True):
        found = data.summary.recovered.get(name)
        if found is not None:
            axes.axvspan(found.low, found.high, color=GUIDED_SOFT, alpha=0.4, lw=0)
            axes.axvline(found.mean, color=GUIDED, ls="--", lw=1.3)
            axes.set_title(f"{found.mean:.2f} ± {found.spread:.2f}", fontweight="normal", fontsize=10)
        frame = data.inferred_range(name)
        if frame:
            axes.axvspan(*frame, fill=False, edgecolor=TARGET, ls=":", lw=1.6)
            axes.set_title(
                f"spectrum: {frame[0]:.2f}–{frame[1]:.2f}", loc="right", fontweight="normal", fontsize=9
            )
        for role in ROLES:
            known = [one for one in data.role(role) if getattr(one, name) is not None]
            y = [MILLI * (one.spectral_distance or 0.0) for one in known]
            axes.scatter([getattr(one, name) for one in known], y, s=18, color=ROLE_COLOURS[role], alpha=0.75)
        axes.set_xlabel(PROPERTY_TITLES[name])
        axes.set_ylim(bottom=0)
        axes.set_xlim(property_range(data.labelled, name, frame))
    row[0].set_ylabel(DISTANCE_TITLE)

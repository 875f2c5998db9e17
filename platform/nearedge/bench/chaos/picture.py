"""The picture of the bench ``chaos``: what was computed when, what went wrong, and how the labels came."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nearedge.bench.base import BenchResult
from nearedge.report.style import ACCENT, GUIDED, GUIDED_SOFT, INK, MUTED


def draw(result: BenchResult, path: Path) -> None:
    """Every calculation as a bar with its faults, and the number of labels (of an undisturbed campaign too)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    evidence = result.data["evidence"]
    _draw_calculations(upper, result.data["attempts"], evidence)
    _draw_labels(lower, result.data)
    for axis in (upper, lower):
        _draw_kills(axis, evidence, named=axis is upper)
    figure.suptitle("A campaign whose processes are killed and whose oracle fails")
    figure.savefig(path, dpi=130)


def _draw_calculations(axis: Any, attempts: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any]) -> None:
    """A line for every structure, in the order in which they were begun."""
    started = evidence["started"]
    rows = {key: number for number, key in enumerate(dict.fromkeys(one["key"] for one in attempts))}
    shown = set()
    for one in attempts:
        good = one["failed"] is None and one["wasted_s"] is None
        seconds = one["ended"] - one["begun"] if good and one["ended"] else one["wasted_s"] or 0.0
        kind = "label stored" if good else "work done again, or given up"
        label = None if kind in shown else kind
        shown.add(kind)
        colour = GUIDED if good else ACCENT
        at = one["begun"] - started
        axis.barh(rows[one["key"]], max(seconds, 0.3), left=at, height=0.8, color=colour, label=label)
        if one["failed"] is not None:
            axis.annotate(
                one["note"][:40],
                (at + max(seconds, 0.3), rows[one["key"]]),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=8,
                color=ACCENT,
                va="center",
            )
    axis.invert_yaxis()
    axis.set(ylabel="structure, in the order of work", title="Calculations of the oracle")
    axis.legend(loc="lower right")


def _draw_labels(axis: Any, data: Mapping[str, Any]) -> None:
    for name, colour in (("undisturbed", GUIDED_SOFT), ("disturbed", GUIDED)):
        if data[name] is None:
            continue
        times = data[name]["label_times"]
        axis.step([0.0, *times], range(len(times) + 1), where="post", color=colour, label=name)
        axis.axvline(data[name]["seconds"], color=colour, ls=":", lw=1)
    axis.set(
        xlabel="time since the start of the campaign (s)", ylabel="labels in the database", ylim=(0, None)
    )
    axis.legend(loc="lower right")


def _draw_kills(axis: Any, evidence: Mapping[str, Any], named: bool) -> None:
    for kill in evidence["kills"]:
        at = kill["time"] - evidence["started"]
        axis.axvline(at, color=INK, lw=1, ls="--")
        if named:
            axis.annotate(
                f"kill -9 {kill['victim']}",
                (at, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, -3),
                textcoords="offset points",
                rotation=90,
                fontsize=8,
                color=MUTED,
                va="top",
            )

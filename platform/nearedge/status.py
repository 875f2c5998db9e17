"""A campaign's summary as compact tables in the terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nearedge import confirmed_words
from nearedge.inferred_words import verdict
from nearedge.labelled import PROPERTY_TITLES
from nearedge.summary import CampaignSummary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PROPERTY_HEADER = ("", "the spectrum says", "90 % interval", "best structures", "middle 68 %", "")
"""The last column says where the best structures lie outside the interval."""


def print_summary(summary: CampaignSummary, console: "Console") -> None:
    """Print progress, results, pools, models and cost of one campaign."""
    from rich.text import Text

    title = Text(f"{summary.campaign}  ", style="bold")
    title.append(summary.shown_state, style="green" if summary.state.value == "FINISHED" else "yellow")
    if summary.stop_reason:
        title.append(f"  ({summary.stop_reason})", style="dim")
    console.print(title)
    console.print(_progress(summary))
    _print_properties(summary, console)
    _print_confirmation(summary, console)
    for table in (_pools(summary), _models(summary), _cost(summary)):
        if table.row_count:
            console.print(table)
    latency = summary.latency
    if latency.used:
        console.print(
            f"from a label to the first candidate scored by a surrogate that learnt from it: "
            f"{duration(latency.p50_s)} (median), {duration(latency.p95_s)} (95 %); "
            f"{latency.used} of {latency.labels} labels",
            highlight=False,
            soft_wrap=True,
        )
    if summary.unsent_trainings:
        console.print(
            f"trainings that MLflow does not have yet: {summary.unsent_trainings} "
            "(sent by the next run, or by `nearedge models sync`)"
        )


def print_overview(summaries: Iterable[CampaignSummary], console: "Console") -> None:
    """Print one line for each campaign."""
    table = _table("campaign", "state", "guided", "best", "best / seed", "late / unguided", "wall")
    for summary in summaries:
        table.add_row(
            summary.campaign,
            summary.shown_state,
            f"{summary.labels.guided}/{summary.labels.budget}",
            distance(summary.best_distance),
            number(summary.best_over_seed),
            number(summary.late_over_unguided),
            duration(summary.cost.wall_seconds),
        )
    console.print(table)
    console.print("distances in 10⁻³ per eV", style="dim")


def distance(value: float | None) -> str:
    """A spectral distance in 10⁻³ per eV."""
    return "—" if value is None else f"{1e3 * value:.2f}"


def number(value: float | None, digits: int = 2) -> str:
    """A plain number, or a dash."""
    return "—" if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A percentage, or a dash."""
    return "—" if value is None else f"{value:.0%}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads best."""
    if seconds is None:
        return "—"
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _table(*columns: str, title: str | None = None) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="left" if index == 0 else "right")
    return table


def _progress(summary: CampaignSummary) -> "Table":
    labels = summary.labels
    table = _table("spectral distance (10⁻³ per eV)", "labels", "best", "median")
    seeds = (distance(summary.best_seed_distance), distance(summary.seed_median))
    table.add_row("starting structures", str(labels.seed), *seeds)
    unguided = (distance(summary.best_unguided_distance), distance(summary.unguided_median))
    table.add_row("unguided", f"{labels.baseline}/{labels.baseline_budget}", *unguided)
    guided = f"{labels.guided}/{labels.budget}"
    table.add_row("guided", guided, distance(summary.best_distance), distance(summary.guided_median))
    table.add_row("guided, last third", "", "", distance(summary.late_median))
    table.add_section()
    table.add_row("late over unguided", "", "", number(summary.late_over_unguided))
    table.add_row("best over best start", "", number(summary.best_over_seed), "")
    if labels.in_flight or labels.waiting:
        table.add_row("at the oracle / waiting", f"{labels.in_flight} / {labels.waiting}", "", "")
    return table


def _print_properties(summary: CampaignSummary, console: "Console") -> None:
    table = _table(*PROPERTY_HEADER)
    for row in property_rows(summary):
        table.add_row(*row)
    if table.row_count:
        console.print(table)
    console.print(verdict(summary.inferred, summary.recovered), markup=False, highlight=False)
    console.print()


def _print_confirmation(summary: CampaignSummary, console: "Console") -> None:
    if summary.confirmation is None:
        return
    table = _table(*confirmed_words.HEADER)
    for row in confirmed_words.rows(summary.confirmation):
        table.add_row(*row)
    if table.row_count:
        console.print(table)
    for sentence in confirmed_words.sentences(summary.confirmation):
        console.print(sentence, markup=False, highlight=False)
    console.print()


def property_rows(summary: CampaignSummary) -> list[tuple[str, ...]]:
    """Cells under `PROPERTY_HEADER` for every property of which something is known."""
    rows, outside = [], summary.inferred.outside(summary.recovered)
    for name, title in PROPERTY_TITLES.items():
        said, found = summary.inferred.properties.get(name), summary.recovered.get(name)
        if said is None and found is None:
            continue
        cells = ["—", "—"] if said is None else [f"{said.median:.2f}", f"{said.low:.2f} … {said.high:.2f}"]
        if found is None:
            cells += ["—", "—", ""]
        else:
            mean = f"{found.mean:.2f} ± {found.spread:.2f}"
            cells += [mean, f"{found.low:.2f} … {found.high:.2f}", "outside" if name in outside else ""]
        rows.append((title, *cells))
    return rows


def _pools(summary: CampaignSummary) -> "Table":
    table = _table("pool", "occupancy", "since the models", "CPU", "tasks")
    for name, pool in summary.pools.items():
        occupancies = (share(pool.occupancy), share(pool.occupancy_since_models))
        table.add_row(name, *occupancies, share(pool.cpu_share), str(pool.tasks))
    return table


def _models(summary: CampaignSummary) -> "Table":
    table = _table("champion", "version", "of", "held-out", "value")
    for model in summary.models:
        if model.champion:
            trained = sum(other.kind == model.kind for other in summary.models)
            version = model.registered_version if model.registered_version is not None else model.sequence
            value = "—" if model.headline is None else f"{model.headline:.4g}"
            table.add_row(model.kind, str(version), str(trained), model.headline_name, value)
    return table


def _cost(summary: CampaignSummary) -> "Table":
    cost = summary.cost
    table = _table("cost", "count", "time")
    for role, label in cost.labels.items():
        if label.count:
            reused = f" ({label.reused} reused)" if label.reused else ""
            table.add_row(f"{role} labels{reused}", str(label.count), duration(label.seconds))
    if cost.seeds.count:
        table.add_row("starting structures made", str(cost.seeds.count), duration(cost.seeds.seconds))
    for one in cost.predictions:
        memory = "" if one.gib is None else f"; {one.gib:.1f} GiB, at most {one.upper_gib:.1f}"
        table.add_row(
            f"the next label of {one.atoms} atoms by {one.oracle} will take about, learnt from",
            str(one.labels),
            f"{duration(one.seconds)}, at most {duration(one.upper_seconds)}{memory}",
        )
    table.add_row("trainings", str(cost.trainings.count), duration(cost.trainings.seconds))
    why = ", ".join(f"{count} {kind}" for kind, count in cost.failed_by_kind.items())
    table.add_row(f"failed for good{why and f' ({why})'}", str(cost.failed), "")
    table.add_row("sessions, time active", str(cost.sessions), duration(cost.active_seconds))
    table.add_row("wall time since the first start", "", duration(cost.wall_seconds))
    return table

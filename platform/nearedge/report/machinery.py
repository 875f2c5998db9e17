"""The interactive panels of the report about pools and models (plotly)."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nearedge.report.data import ReportData
from nearedge.report.figures import styled
from nearedge.report.style import ACCENT, GUIDED, GUIDED_SOFT, UNGUIDED, pool_names
from nearedge_db.states import ModelKind

KINDS = tuple(kind.value for kind in ModelKind)


def occupancy(data: ReportData) -> go.Figure | None:
    """Occupancy and CPU use of each pool over the whole run. None before any time was accounted."""
    pools = {name: pool for name, pool in data.summary.pools.items() if pool.occupancy is not None}
    if not pools:
        return None
    names = list(reversed(pool_names(pools)))
    figure = go.Figure()
    series = (
        ("CPU use", [pools[name].cpu_share or 0.0 for name in names], UNGUIDED),
        ("occupancy", [pools[name].occupancy or 0.0 for name in names], GUIDED),
    )
    for title, values, colour in series:
        figure.add_bar(
            x=values,
            y=names,
            name=title,
            orientation="h",
            marker={"color": colour},
            text=[f"{value:.0%}" for value in values],
            textposition="outside",
            cliponaxis=False,
        )
    largest = max(value for _, values, _ in series for value in values)
    figure.update_xaxes(tickformat=".0%", range=[0, max(1.08, 1.12 * largest)])
    figure.update_yaxes(type="category")
    figure.update_layout(barmode="group", bargap=0.35, legend={"traceorder": "reversed"})
    return styled(figure, 140 + 62 * len(names))


def models(data: ReportData) -> go.Figure | None:
    """The held-out metric that decides promotion, by version. None before the first training."""
    kinds = [
        kind for kind in KINDS if any(m.kind == kind and m.headline is not None for m in data.summary.models)
    ]
    if not kinds:
        return None
    figure = make_subplots(rows=1, cols=len(kinds), subplot_titles=kinds, horizontal_spacing=0.09)
    for place, kind in enumerate(kinds, 1):
        trained = [m for m in data.summary.models if m.kind == kind and m.headline is not None]
        figure.add_scatter(
            x=[model.sequence for model in trained],
            y=[model.headline for model in trained],
            showlegend=False,
            mode="lines+markers",
            line={"color": GUIDED_SOFT, "width": 2},
            marker={"color": GUIDED, "size": 8},
            row=1,
            col=place,
        )
        champions = [model for model in trained if model.champion]
        figure.add_scatter(
            x=[model.sequence for model in champions],
            y=[model.headline for model in champions],
            mode="markers",
            marker={"color": ACCENT, "size": 15, "symbol": "star"},
            name="champion",
            showlegend=place == 1,
            row=1,
            col=place,
        )
        figure.update_yaxes(title=trained[0].headline_name, row=1, col=place, rangemode="tozero")
        ends = [trained[0].sequence - 0.5, trained[-1].sequence + 0.5]
        figure.update_xaxes(
            title="training", range=ends, dtick=1 if len(trained) < 12 else None, row=1, col=place
        )
    styled(figure, 330)
    return figure.update_layout(legend={"y": 1.12}, margin={"t": 70})

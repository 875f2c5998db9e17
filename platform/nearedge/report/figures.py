"""The interactive panels of the report about spectra and structures (plotly)."""

from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nearedge.labelled import PROPERTIES, PROPERTY_TITLES, late, property_range
from nearedge.report.data import Curve, ReportData, TargetView
from nearedge.report.style import (
    ACCENT,
    BEST_COLOURS,
    DISTANCE_TITLE,
    FONT,
    GRID_LINE,
    GUIDED,
    GUIDED_SOFT,
    INK,
    MILLI,
    MUTED,
    PAPER,
    ROLE_COLOURS,
    ROLE_NAMES,
    SEED,
    TARGET,
    UNGUIDED,
)
from nearedge_db.states import LabelRole

EVERYWHERE = {"exclude_empty_subplots": False}
"""Bands are added before the points: plotly would leave them out of subplots that are still empty."""

ROLES = (LabelRole.SEED, LabelRole.BASELINE, LabelRole.GUIDED)


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The house style: white, light grid, legend on top."""
    figure.update_layout(
        height=height,
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        margin={"l": 64, "r": 18, "t": 44, "b": 52},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0},
        hoverlabel={"font": {"family": FONT}},
    )
    figure.update_xaxes(
        gridcolor=GRID_LINE, zeroline=False, linecolor=MUTED, ticks="outside", tickcolor=MUTED
    )
    figure.update_yaxes(
        gridcolor=GRID_LINE, zeroline=False, linecolor=MUTED, ticks="outside", tickcolor=MUTED
    )
    return figure


def spectra(data: ReportData) -> go.Figure | None:
    """Target, best structures and best start; what they miss below. None before there is a target."""
    target = data.target
    if target is None:
        return None
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.05)
    if data.best_seed is not None:
        _add_curve(figure, target, data.best_seed, "best starting structure", SEED, dash="dot")
    for rank, curve in reversed(list(enumerate(data.best))):
        name = (
            f"best: no. {curve.of.structure_id}" if rank == 0 else f"{rank + 1}: no. {curve.of.structure_id}"
        )
        _add_curve(figure, target, curve, name, BEST_COLOURS[rank], width=2.6 if rank == 0 else 1.3)
    inside = target.mask
    line = {"color": TARGET, "width": 2.4, "dash": "dash"}
    figure.add_scatter(
        x=target.energies_ev[inside], y=target.intensity[inside], name="target", line=line, row=1, col=1
    )
    figure.add_hline(y=0, line={"color": TARGET, "width": 1}, row=2, col=1)
    if target.narrowed:
        low, high = target.window_ev
        figure.add_vrect(x0=low, x1=high, fillcolor="#f3f6fa", line_width=0, layer="below")
    figure.update_yaxes(title="intensity (1/eV, unit area)", row=1, col=1)
    figure.update_yaxes(title="residual", row=2, col=1)
    figure.update_xaxes(title="energy on the oracle's axis (eV)", row=2, col=1)
    figure.update_layout(legend={"traceorder": "reversed"}, hovermode="x unified")
    return styled(figure, 540)


def _add_curve(
    figure: go.Figure,
    target: TargetView,
    curve: Curve,
    name: str,
    colour: str,
    *,
    dash: str = "solid",
    width: float = 1.8,
) -> None:
    line = {"color": colour, "width": width, "dash": dash}
    residual = (curve.intensity - target.intensity)[target.mask]
    figure.add_scatter(
        x=target.energies_ev, y=curve.intensity, name=name, line=line, legendgroup=name, row=1, col=1
    )
    figure.add_scatter(
        x=target.energies_ev[target.mask],
        y=residual,
        name=name,
        line=line,
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
        row=2,
        col=1,
    )


def progress(data: ReportData) -> go.Figure | None:
    """Distance against labels spent, beside the starting structures and the unguided samples."""
    roles = {role: data.role(role) for role in ROLES}
    if not any(roles.values()):
        return None
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, column_widths=[0.2, 0.8], horizontal_spacing=0.03
    )
    rng = np.random.default_rng(0)
    for place, role in enumerate((LabelRole.SEED, LabelRole.BASELINE)):
        y = np.array([MILLI * (one.spectral_distance or 0.0) for one in roles[role]])
        marker = {"color": ROLE_COLOURS[role], "size": 7, "opacity": 0.75}
        x = place + rng.uniform(-0.22, 0.22, len(y))
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name=ROLE_NAMES[role], row=1, col=1)
    ticks = {"tickvals": [0, 1], "ticktext": ["start", "unguided"], "range": [-0.6, 1.6]}
    figure.update_xaxes(**ticks, row=1, col=1)
    _add_baseline_band(figure, data)
    _add_guided(figure, data)
    figure.update_yaxes(title=DISTANCE_TITLE, rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title="guided labels spent", row=1, col=2)
    return styled(figure, 420)


def _add_baseline_band(figure: go.Figure, data: ReportData) -> None:
    values = [MILLI * (one.spectral_distance or 0.0) for one in data.role(LabelRole.BASELINE)]
    if not values:
        return
    low, middle, high = np.percentile(values, [16, 50, 84])
    figure.add_hrect(
        y0=low, y1=high, fillcolor=UNGUIDED, opacity=0.12, line_width=0, layer="below", **EVERYWHERE
    )
    figure.add_hline(y=middle, line={"color": UNGUIDED, "width": 1.6, "dash": "dash"}, **EVERYWHERE)
    figure.add_annotation(
        text="unguided: median, 68 % band",
        x=1,
        xref="paper",
        xanchor="right",
        y=middle,
        yanchor="bottom",
        showarrow=False,
        font={"color": UNGUIDED, "size": 12},
    )


def _add_guided(figure: go.Figure, data: ReportData) -> None:
    guided = data.role(LabelRole.GUIDED)
    if not guided:
        return
    x = np.arange(1, len(guided) + 1)
    y = MILLI * np.array([one.spectral_distance or 0.0 for one in guided])
    hover = [f"no. {one.structure_id}, {one.density_g_cm3:.2f} g/cm³" for one in guided]
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=ROLE_NAMES[LabelRole.GUIDED],
        text=hover,
        marker={"color": GUIDED, "size": 8},
        row=1,
        col=2,
    )
    figure.add_scatter(
        x=x,
        y=np.minimum.accumulate(y),
        mode="lines",
        name="best so far",
        line={"color": ACCENT, "width": 2, "shape": "hv"},
        row=1,
        col=2,
    )
    start = len(guided) - len(late(guided)) + 0.5
    figure.add_scatter(
        x=[start, len(guided) + 0.5],
        y=[float(np.median(y[int(start) :]))] * 2,
        mode="lines",
        name="median of the last third",
        line={"color": GUIDED, "width": 3},
        row=1,
        col=2,
    )


def properties(data: ReportData) -> go.Figure | None:
    """Density and coordination of everything labelled against distance, with what the best have in common."""
    if not any(data.role(role) for role in ROLES):
        return None
    figure = make_subplots(rows=1, cols=4, shared_yaxes=True, horizontal_spacing=0.025)
    for place, name in enumerate(PROPERTIES, 1):
        found = data.summary.recovered.get(name)
        if found is not None:
            figure.add_vrect(
                x0=found.low,
                x1=found.high,
                fillcolor=GUIDED_SOFT,
                opacity=0.4,
                line_width=0,
                layer="below",
                row=1,
                col=place,
                **EVERYWHERE,
            )
            line = {"color": GUIDED, "width": 1.4, "dash": "dash"}
            figure.add_vline(x=found.mean, line=line, row=1, col=place, **EVERYWHERE)
        frame = data.inferred_range(name)
        if frame:
            dotted = {"color": TARGET, "width": 1.6, "dash": "dot"}
            figure.add_vrect(x0=frame[0], x1=frame[1], line=dotted, row=1, col=place, **EVERYWHERE)
        for role in ROLES:
            known = [one for one in data.role(role) if getattr(one, name) is not None]
            figure.add_scatter(
                x=[getattr(one, name) for one in known],
                y=[MILLI * (one.spectral_distance or 0.0) for one in known],
                mode="markers",
                name=ROLE_NAMES[role],
                legendgroup=role.value,
                showlegend=place == 1,
                text=[f"no. {one.structure_id}" for one in known],
                marker={"color": ROLE_COLOURS[role], "size": 7, "opacity": 0.75},
                row=1,
                col=place,
            )
        figure.update_xaxes(
            title=PROPERTY_TITLES[name], range=property_range(data.labelled, name, frame), row=1, col=place
        )
    figure.update_yaxes(title=DISTANCE_TITLE, rangemode="tozero", row=1, col=1)
    return styled(figure, 360)


def calibration(data: ReportData) -> go.Figure | None:
    """What the surrogate said before the label, against what the oracle said. None without predictions."""
    figure = go.Figure()
    largest = 0.0
    for role in (LabelRole.BASELINE, LabelRole.GUIDED):
        known = [one for one in data.role(role) if one.predicted_distance is not None]
        if not known:
            continue
        x = [MILLI * (one.spectral_distance or 0.0) for one in known]
        y = [MILLI * (one.predicted_distance or 0.0) for one in known]
        bars = [MILLI * (one.spectral_distance_std or 0.0) for one in known]
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            name=ROLE_NAMES[role],
            text=[f"no. {one.structure_id}" for one in known],
            error_y={"type": "data", "array": bars, "thickness": 1, "width": 0},
            marker={"color": ROLE_COLOURS[role], "size": 8},
        )
        largest = max(largest, *x, *(value + bar for value, bar in zip(y, bars, strict=True)))
    if not figure.data:
        return None
    ends = [0, 1.05 * largest]
    line = {"color": MUTED, "width": 1.2, "dash": "dash"}
    figure.add_scatter(x=ends, y=ends, mode="lines", name="perfect", line=line, hoverinfo="skip")
    figure.update_xaxes(title="oracle: " + DISTANCE_TITLE, range=ends)
    figure.update_yaxes(title="predicted ± σ", range=ends)
    return styled(figure, 400)


def rejections(data: ReportData) -> go.Figure | None:
    """Rejected structures by reason. None when nothing was rejected."""
    if not data.summary.rejected:
        return None
    reasons = list(reversed(data.summary.rejected.items()))
    figure = go.Figure(
        go.Bar(
            x=[count for _, count in reasons],
            y=[escape(reason)[:40] for reason, _ in reasons],
            orientation="h",
            marker={"color": SEED},
            text=[count for _, count in reasons],
            textposition="outside",
            cliponaxis=False,
        )
    )
    figure.update_xaxes(title="rejected structures")
    figure.update_yaxes(type="category")
    return styled(figure, 120 + 46 * max(3, len(reasons)))

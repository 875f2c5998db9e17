"""The report as one HTML page that needs no network."""

from html import escape
from typing import TYPE_CHECKING

from nearedge import confirmed_words
from nearedge.inferred_words import basis
from nearedge.labelled import LIKE_DENSITY_G_CM3, LIKE_STARTS
from nearedge.report import agreement, figures, machinery, structure_view, tables, words
from nearedge.report.data import ReportData
from nearedge.report.stylesheet import CSS
from nearedge.status import distance, number

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The page stays offline: no button that would send data to a server.
PLOT_SETTINGS = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "responsive": True,
    "modeBarButtonsToRemove": [
        "lasso2d",
        "select2d",
        "zoomIn2d",
        "zoomOut2d",
        "autoScale2d",
        "pan2d",
        "sendChartToCloud",
    ],
}


def render(data: ReportData) -> str:
    """The whole page as text."""
    from plotly.offline import get_plotlyjs

    name = escape(data.summary.campaign)
    parts = [
        _head(data),
        _tiles(data),
        _found(data),
        _agreement(data),
        _spectra(data),
        _progress(data),
        _properties(data),
        _best(data),
        _confirmed(data),
        _surrogate(data),
        _loop(data),
        _provenance(data),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>NearEdge: {name}</title>\n<style>{CSS}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, *contents: str, kind: str = "") -> str:
    inside = "\n".join(content for content in contents if content)
    return f'<section class="{kind}">\n<h2>{escape(title)}</h2>\n{inside}\n</section>'


def _text(text: str | None, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def _plot(figure: "go.Figure | None", name: str, missing: str) -> str:
    """The figure, or a sentence on why there is none; ids are fixed so that pages can be compared."""
    if figure is None:
        return _text(missing, "missing")
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        config=PLOT_SETTINGS,
        div_id=f"plot-{name}",
    )
    return html


def _head(data: ReportData) -> str:
    state = data.summary.state.value
    kind = "badge done" if state == "FINISHED" else "badge"
    return (
        f'<h1>{escape(data.summary.campaign)}<span class="{kind}">{escape(state.lower())}</span></h1>\n'
        + _text(words.asked(data), "lead")
    )


def _tiles(data: ReportData) -> str:
    summary = data.summary
    tiles = [
        (number(summary.late_over_unguided), "late guided over unguided, median distance"),
        (number(summary.best_over_seed), "best found over best starting structure"),
        (distance(summary.best_distance), "best distance, 10⁻³ per eV"),
        (words.property_line(data, "density_g_cm3") or "—", "density of the best, g/cm³"),
        (words.inferred_line(data, "density_g_cm3") or "—", "density by the spectrum alone (90 %), g/cm³"),
        (words.property_line(data, "cn4_fraction") or "—", "4-fold share of the best"),
        (words.inferred_line(data, "cn4_fraction") or "—", "4-fold share by the spectrum alone (90 %)"),
        (f"{summary.labels.guided}/{summary.labels.budget}", "guided labels spent"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>' for value, text in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _found(data: ReportData) -> str:
    return _section("What was found", *(_text(sentence) for sentence in words.found(data)))


def _agreement(data: ReportData) -> str:
    sentences = agreement.agreement(data)
    if not sentences:
        return ""
    done = _text(agreement.steps(data), "note")
    return _section("How far theory and experiment agree", *map(_text, sentences), done, kind="honest")


def _spectra(data: ReportData) -> str:
    missing = "There is no target yet: it is aligned when the starting structures are labelled."
    note = None
    if data.target is not None:
        low, high = data.target.window_ev
        note = (
            f"Cell-mean spectra, unit area over the window from {low:g} to {high:g} eV"
            + (" (shaded)." if data.target.narrowed else ".")
            + " Below: what each structure misses."
        )
    return _section(
        "Target and discovered spectra", _text(note, "note"), _plot(figures.spectra(data), "spectra", missing)
    )


def _progress(data: ReportData) -> str:
    plot = _plot(figures.progress(data), "progress", "No label has a distance to the target yet.")
    return _section("Distance against labels spent", plot)


def _properties(data: ReportData) -> str:
    plot = _plot(figures.properties(data), "properties", "No label has a distance to the target yet.")
    title = "What the spectrum determines: density and coordination"
    note = words.recovered(data) or "No guided structure is labelled yet, so nothing is recovered."
    return _section(
        title,
        tables.properties(data),
        _text(basis(data.summary.inferred), "note"),
        _text(note, "note"),
        _text(words.frames(data), "note"),
        plot,
    )


def _best(data: ReportData) -> str:
    figure = None if data.best_atoms is None else structure_view.view(data.best_atoms)
    title = "The best structure"
    if figure is not None and not data.best:
        title = "The best starting structure"
    plot = _plot(figure, "structure", "No structure is labelled yet.")
    note = None
    if data.best:
        note = (
            "Distances in 10⁻³ per eV; predictions are the surrogate's last before the label; energies are "
            "above the lowest labelled structure of the campaign, whatever its density, and above the median of the "
            f"{LIKE_STARTS} starting structures nearest in density (— where those are not within "
            f"{LIKE_DENSITY_G_CM3:g} g/cm³): a strained structure lies far above them. The order is that of the "
            "distances alone."
        )
    return _section(title, plot, tables.best(data), _text(note, "note"))


def _confirmed(data: ReportData) -> str:
    confirmation = data.summary.confirmation
    if confirmation is None:
        return ""
    table = tables.html_table(confirmed_words.HEADER, confirmed_words.rows(confirmation))
    note = (
        "Distances in 10⁻³ per eV, each oracle's to the target on its own energies: the columns do not compare with "
        "each other. Expected: from the first oracle's spectrum by the correction, learnt without that structure. "
        "Energies are the second oracle's, above the lowest in the table."
    )
    return _section(
        f"Confirmed by {confirmation.oracle}",
        *(_text(sentence) for sentence in confirmed_words.sentences(confirmation)),
        table if confirmation.structures else "",
        _text(note, "note"),
    )


def _surrogate(data: ReportData) -> str:
    calibration = _plot(
        figures.calibration(data), "calibration", "No labelled structure has a prediction yet."
    )
    rejections = _plot(figures.rejections(data), "rejections", "Nothing was rejected.")
    return (
        '<div class="pair">'
        + _section("Surrogate against oracle", calibration, _text(words.calibration(data), "note"))
        + _section("Generated structures", rejections, tables.candidates(data))
        + "</div>"
    )


def _loop(data: ReportData) -> str:
    occupancy = _plot(machinery.occupancy(data), "occupancy", "No time has been accounted to the pools yet.")
    trained = _plot(machinery.models(data), "models", "No model has been trained yet.")
    failed = tables.failures(data) or _text("No task failed for good.", "note")
    return (
        '<div class="pair">'
        + _section("Pools over the whole run", occupancy, tables.pools(data))
        + _section("Cost", tables.cost(data), failed)
        + "</div>"
        + _section("Models on held-out structures", trained, tables.models(data))
    )


def _provenance(data: ReportData) -> str:
    return _section("Settings and provenance", tables.provenance(data), tables.config_yaml(data))

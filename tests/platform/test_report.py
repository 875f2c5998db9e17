"""The report: self-contained, escaped, honest, and there for campaigns in any state."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from tests.platform.synthetic_campaign import ALIGNMENT, GUIDED, Plan, make_campaign, make_empty_campaign
from typer import Typer
from typer.testing import CliRunner

from nearedge.cli.report import report
from nearedge.report import (
    agreement,
    figures,
    picture,
    structure_view,
    tables,
    words,
    write_png,
    write_report,
)
from nearedge.report.data import LEAST_PAIRS, Curve, LikeSpread, like_spread, read_report
from nearedge.report.page import render
from nearedge_db.errors import UserError
from nearedge_db.states import CampaignState, LabelRole

VOID = {"meta", "br", "img", "link", "input", "hr"}
LOADING = ("src", "href", "data", "action", "poster", "srcset")
PANELS = (
    "spectra",
    "progress",
    "properties",
    "structure",
    "calibration",
    "rejections",
    "occupancy",
    "models",
)


class Page(HTMLParser):
    """Checks nesting; keeps ids, text, and whatever a browser would load."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.loads, self.text, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.loads += [value for name, value in attrs if name in LOADING]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    database = make_campaign(tmp_path_factory.mktemp("run"), Plan(aligned=True))
    yield database
    database.dispose()


@pytest.fixture(scope="module")
def data(finished):
    return read_report(finished, "demo")


@pytest.fixture(scope="module")
def page(data):
    return Page(render(data))


def test_page_needs_no_network(page):
    assert page.loads == []
    assert page.tags.count("html") == 1
    assert "iframe" not in page.tags
    assert "link" not in page.tags


def test_plotly_is_inside_exactly_once(data):
    assert len(re.findall(r"plotly\.js v\d", render(data)[:2_000_000])) == 1


def test_every_panel_is_there(page):
    assert {f"plot-{name}" for name in PANELS} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_headline_numbers_come_first(page):
    text = " ".join("".join(page.text).split())
    assert text.index("0.35") < text.index("Target and discovered spectra")  # 9/26
    assert "8.00 × 10⁻³ per eV" in text
    assert "best starting structure by 20.00" in text


def test_what_the_user_wrote_is_escaped(data):
    evil = "<script>alert(1)</script>"
    summary = replace(data.summary, stop_reason=evil, rejected={evil: 2})
    provenance = replace(data.provenance, config={"target": {"file": f"a{evil}"}, evil: evil}, oracle=evil)
    text = render(replace(data, summary=summary, provenance=provenance))
    assert evil not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert Page(text).tags.count("script") == Page(render(data)).tags.count("script")


def test_passwords_in_urls_are_left_out(data):
    config = {"database": "postgresql://user:se:cr@et@host/name"}
    text = tables.config_yaml(replace(data, provenance=replace(data.provenance, config=config)))
    assert "user:***@host/name" in text
    assert "se:cr" not in text


def test_residual_has_the_distance_as_its_root_mean_square(data):
    """The curves of the report, recomputed from the labels, agree with the distances in the database."""
    inside = data.target.mask
    for curve, distance in zip(data.best, sorted(GUIDED), strict=False):
        residual = (curve.intensity - data.target.intensity)[inside]
        assert np.sqrt(np.mean(residual**2)) == pytest.approx(distance, rel=1e-4)
        assert curve.of.spectral_distance == pytest.approx(distance)
    assert np.trapezoid(data.target.intensity[inside], data.target.energies_ev[inside]) == pytest.approx(1.0)


def test_seed_spread_is_the_median_difference_of_pairs(data):
    """Spectra on one line: the distance of two is the difference of their distances."""
    seeds = np.array([one.spectral_distance for one in data.role(LabelRole.SEED)])
    first, second = np.triu_indices(len(seeds), k=1)
    assert data.seed_spread == pytest.approx(np.median(np.abs(seeds[first] - seeds[second])), rel=1e-3)


def test_progress_shows_running_best_and_late_median(data):
    traces = {trace.name: trace for trace in figures.progress(data).data}
    assert list(traces["best so far"].y) == pytest.approx(list(1e3 * np.minimum.accumulate(GUIDED)))
    assert traces["median of the last third"].y[0] == pytest.approx(9.0)


def test_calibration_text_counts_bias_and_coverage(data):
    """The plan's surrogate is 10 % optimistic with σ = 0.002: off by more than 1.645 σ only above 0.0329."""
    text = words.calibration(data)
    mean = 0.1 * np.mean([*GUIDED, 0.026, 0.022, 0.030]) * 1e3
    assert f"optimistic by {mean:.2f}" in text
    assert "100%" in text


def test_alignment_is_told_with_its_numbers(data, page):
    text = " ".join("".join(page.text).split())
    assert "How far theory and experiment agree" in text
    assert "laid at 284.10 eV of the experiment's (283.80 to 284.50 eV are about as good)" in text
    assert "subtracted from every measured energy" in text
    assert "multiplied by 0.041" in text
    assert "6.20" in text
    assert "no background was subtracted" in text
    assert "nothing else" not in text.lower()


def said(data, **changes) -> str:
    return " ".join(agreement.agreement(replace(data, **changes)))


@pytest.mark.parametrize(
    ("spread", "verdict"),
    [
        (0.0081, "the structure explains the experiment as well as another network of its kind would"),
        (0.0041, "tendencies"),
        (0.0039, "no structure found accounts for the experiment"),
    ],
)
def test_verdict_follows_the_distance_of_networks_of_like_density(data, spread, verdict):
    """The best is 0.008; what structures of any density differ by has no part in it."""
    text = said(data, like_spread=LikeSpread(spread, 9), alignment={**ALIGNMENT, "theory_spread": 0.05})
    assert verdict in text
    assert f"{0.008 / spread:.1f} times" in text


def test_without_starting_structures_of_like_density_nothing_is_claimed(data):
    text = said(data, like_spread=LikeSpread(None, 2))
    assert "only 2 pairs" in text
    assert "cannot be said" in text
    assert "explains the experiment as" not in text


@pytest.mark.parametrize("rival", ["best_seed_distance", "best_unguided_distance"])
def test_a_find_no_better_than_what_was_there_explains_nothing(data, rival):
    summary = replace(data.summary, **{rival: data.summary.best_distance})
    text = said(data, summary=summary, like_spread=LikeSpread(0.05, 9))
    assert "the search gained nothing" in text
    assert "explains" not in text


def test_background_and_range_of_the_settings_are_told(data):
    target = {"file": "film.csv", "pre_edge_ev": [271.0, 280.0], "energy_range_ev": [270.0, 320.0]}
    provenance = replace(data.provenance, config={**data.provenance.config, "target": target})
    text = said(data, provenance=provenance)
    assert "only 270 to 320 eV of the file were used" in text
    assert "the mean of 271 to 280 eV was subtracted as background" in text


def test_the_history_of_the_target_is_printed(data):
    done = ("read 400 points", "constant background of 271 … 280 eV removed", "shifted by -284.1 eV")
    assert "; ".join(done) in "".join(Page(render(replace(data, history=done))).text)
    assert agreement.steps(replace(data, history=())) is None


def test_like_spread_takes_independent_pairs_of_like_density_only(tmp_path):
    """Spectra on one line: the distance of two is the difference of their distances."""
    database = make_campaign(tmp_path, Plan(seeds=[0.02 + 0.0015 * k for k in range(12)]))
    data = read_report(database, "demo")
    database.dispose()
    seeds = data.role(LabelRole.SEED)
    expected = [
        abs(a.spectral_distance - b.spectral_distance)
        for a, b in combinations(seeds, 2)
        if abs(a.density_g_cm3 - b.density_g_cm3) < 0.025 * (a.density_g_cm3 + b.density_g_cm3)
    ]
    assert LEAST_PAIRS <= len(expected) < 12 * 11 / 2
    assert data.like_spread.pairs == len(expected)
    assert data.like_spread.median == pytest.approx(np.median(expected), rel=1e-3)
    assert data.like_spread.median < data.seed_spread


def test_frames_of_one_network_are_no_independent_pair(data):
    curves = [Curve(one, data.target.intensity) for one in data.role(LabelRole.SEED)]
    one_group = {one.structure_id: "the same" for one in data.role(LabelRole.SEED)}
    assert like_spread(data.target, curves, one_group).pairs == 0


def test_the_spread_is_called_what_it_is(page):
    text = " ".join("".join(page.text).split())
    assert "not intervals that cover the truth with a known probability" in text


def test_a_target_on_the_oracles_axis_has_no_alignment_section(data):
    assert agreement.agreement(replace(data, alignment=None)) == []


def test_an_unguided_structure_that_is_nearer_is_said(data):
    nearer = replace(data.summary, best_unguided_distance=0.007)
    assert "best of the unguided ones, 7.00, is as near" in " ".join(
        words.found(replace(data, summary=nearer))
    )
    assert "best of the unguided ones" not in " ".join(words.found(data))


def test_worse_than_the_baseline_is_said(data):
    worse = replace(data.summary, late_median=0.03)
    assert "no nearer to the target" in " ".join(words.found(replace(data, summary=worse)))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(guided=(), baseline=(), state=CampaignState.RUNNING, stop_reason=None, reject_reasons=()),
        Plan(seeds=(), guided=(), baseline=(), state=CampaignState.FAILED),
        Plan(guided=(0.01,), baseline=(), state=CampaignState.STOPPED),
    ],
)
def test_unfinished_campaigns_have_a_report(tmp_path, plan):
    database = make_campaign(tmp_path, plan)
    text = write_report(database, "demo", tmp_path / "report.html").read_text(encoding="utf-8")
    picture = write_png(database, "demo", tmp_path / "report.png")
    database.dispose()
    assert "not finished" in "".join(Page(text).text)
    assert picture.stat().st_size > 10_000


def test_a_campaign_without_anything_says_what_is_missing(tmp_path):
    database = make_empty_campaign(tmp_path)
    text = write_report(database, "empty", tmp_path / "report.html").read_text(encoding="utf-8")
    write_png(database, "empty", tmp_path / "report.png")
    database.dispose()
    found = "".join(Page(text).text)
    for sentence in (
        "no target yet",
        "nothing found to report",
        "No model has been trained",
        "Nothing was rejected",
    ):
        assert sentence in found


def test_picture_is_a_png_with_content(finished, tmp_path):
    import matplotlib.image

    path = write_png(finished, "demo", tmp_path / "report.png")
    pixels = matplotlib.image.imread(path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert pixels.shape[1] >= 1200
    assert pixels[..., :3].std() > 0.05


@pytest.mark.parametrize("panel", [0, 2])
def test_legends_of_the_picture_cover_nothing(data, panel):
    """Spectra and progress: everything drawn ends below its legend."""
    with mpl.rc_context(picture.LOOK):
        figure = picture.compose(data)
        figure.canvas.draw()
    axes = figure.subfigs[0].axes[panel]
    legend = axes.get_legend().get_window_extent()
    curves = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) > 2]
    points = [dots.get_offsets()[:, 1] for dots in axes.collections if len(dots.get_offsets()) > 1]
    highest = max(np.max(values) for values in [*curves, *points])
    assert axes.transData.transform((0, highest))[1] < legend.y0
    assert axes.get_window_extent().x0 < legend.x0


def test_structure_view_has_every_atom_and_half_a_line_for_each_bond(data):
    from nearedge_services.structures.coordination import find_bonds

    figure = structure_view.view(data.best_atoms)
    bonds, cell, *atoms = figure.data
    assert sum(len(trace.x) for trace in atoms) == len(data.best_atoms)
    assert len(bonds.x) == 3 * len(find_bonds(data.best_atoms).i)
    assert len(cell.x) == 3 * 12


def test_figures_are_json_without_nan(data):
    json.loads(figures.properties(data).to_json(), parse_constant=pytest.fail)


def test_command_writes_page_and_picture(tmp_path):
    make_campaign(tmp_path).dispose()
    app = Typer()
    app.command()(report)
    picture = tmp_path / "report.png"
    result = CliRunner().invoke(app, ["demo", "--dir", str(tmp_path), "--png", str(picture)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").is_file()
    assert picture.is_file()


def test_missing_folder_and_campaign_are_the_users_errors(finished, tmp_path):
    with pytest.raises(UserError, match="folder of the report"):
        write_report(finished, "demo", tmp_path / "no" / "report.html")
    with pytest.raises(UserError, match="other"):
        write_report(finished, "other", tmp_path / "report.html")

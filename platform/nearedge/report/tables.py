"""The tables of the report as HTML; every cell is escaped."""

import json
from collections.abc import Iterable, Sequence
from html import escape

import yaml

from nearedge.labelled import Labelled, by_distance, energy_above_starts
from nearedge.report.data import ReportData
from nearedge.report.style import pool_names
from nearedge.status import PROPERTY_HEADER, distance, duration, number, property_rows, share
from nearedge_db.redaction import without_password
from nearedge_db.states import LabelRole

BEST_ROWS = 10


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; the first column is a heading, the others are right-aligned."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def best(data: ReportData) -> str:
    """The best guided structures with what a distance alone does not tell: energy, contacts, coordination."""
    shown = by_distance(data.role(LabelRole.GUIDED))[:BEST_ROWS]
    if not shown:
        return ""
    lowest = min(one.energy_per_atom_ev for one in data.labelled)
    starts = data.role(LabelRole.SEED)
    header = (
        "structure",
        "distance",
        "predicted",
        "density g/cm³",
        "2 / 3 / 4-fold",
        "energy above lowest, eV/atom",
        "above starts of like density, eV/atom",
        "shortest contact Å",
        "prior / surrogate / potential",
        "seed",
    )
    return html_table(header, (_best_row(one, lowest, starts) for one in shown))


def properties(data: ReportData) -> str:
    """What the spectrum alone says of each property, beside what the best structures have."""
    rows = property_rows(data.summary)
    return html_table(PROPERTY_HEADER, rows) if rows else ""


def _best_row(one: Labelled, lowest: float, starts: Sequence[Labelled]) -> tuple[str, ...]:
    above = energy_above_starts(one, starts)
    shares = " / ".join(share(value) for value in (one.cn2_fraction, one.cn3_fraction, one.cn4_fraction))
    versions = (one.prior_version, one.surrogate_version, one.potential_version)
    predicted = distance(one.predicted_distance)
    if one.spectral_distance_std is not None:
        predicted += f" ± {distance(one.spectral_distance_std)}"
    return (
        f"no. {one.structure_id}",
        distance(one.spectral_distance),
        predicted,
        number(one.density_g_cm3),
        shares,
        f"{one.energy_per_atom_ev - lowest:+.3f}",
        "—" if above is None else f"{above:+.3f}",
        number(one.shortest_contact_a),
        " / ".join("—" if version is None else str(version) for version in versions),
        "—" if one.seed is None else str(one.seed),
    )


def cost(data: ReportData) -> str:
    """The bill."""
    bill = data.summary.cost
    rows = []
    for role, label in bill.labels.items():
        if label.count:
            each = (
                duration(label.seconds / (label.count - label.reused)) if label.count > label.reused else "—"
            )
            reused = f", {label.reused} reused" if label.reused else ""
            rows.append((f"oracle: {role} labels", f"{label.count}{reused}", duration(label.seconds), each))
    for name, work in (("starting structures, labels included", bill.seeds), ("trainings", bill.trainings)):
        each = duration(work.seconds / work.count) if work.count else "—"
        rows.append((name, str(work.count), duration(work.seconds), each))
    rows.append(("CPU time of all pools", "", duration(bill.cpu_seconds), ""))
    rows.append(("driver sessions", str(bill.sessions), duration(bill.active_seconds), ""))
    rows.append(("wall time, first start to end", "", duration(bill.wall_seconds), ""))
    return html_table(("what", "count", "time", "each"), rows)


def failures(data: ReportData) -> str:
    """Tasks that were given up, by reason."""
    rows = [(one.kind, one.failure, str(one.count), one.reason) for one in data.summary.cost.failures]
    return html_table(("task", "failure", "count", "reason"), rows) if rows else ""


def pools(data: ReportData) -> str:
    """Seconds of each pool."""
    found = data.summary.pools
    rows = [
        (
            name,
            share(found[name].occupancy),
            share(found[name].occupancy_since_models),
            share(found[name].cpu_share),
            duration(found[name].busy_seconds),
            duration(found[name].capacity_seconds),
            str(found[name].tasks),
        )
        for name in pool_names(found)
    ]
    headings = ("pool", "occupancy", "since the models", "CPU", "busy", "capacity", "tasks")
    return html_table(headings, rows) if rows else ""


def models(data: ReportData) -> str:
    """Every training with its held-out metrics."""
    rows = []
    for model in data.summary.models:
        others = {key: value for key, value in model.metrics.items() if key != model.headline_name}
        rows.append(
            (
                f"{model.kind} {model.sequence}" + (" ★" if model.champion else ""),
                "—"
                if model.registered_version is None
                else f"{model.registered_name} v{model.registered_version}",
                f"{model.n_train} / {model.n_held_out}",
                f"{model.headline_name} {_plain(model.headline)}",
                ", ".join(f"{key} {_plain(value)}" for key, value in others.items()),
                duration(model.first_use_seconds),
            )
        )
    header = ("model", "registered", "trained / held out", "decides", "others", "first use after")
    return html_table(header, rows) if rows else ""


def candidates(data: ReportData) -> str:
    """How many structures got how far."""
    counts = {state: count for state, count in data.summary.candidates.items() if count}
    rows = [(state.lower(), str(count)) for state, count in counts.items()]
    rows.append(("generated in all", str(sum(counts.values()))))
    return html_table(("structures", "count"), rows)


def provenance(data: ReportData) -> str:
    """Seed, hashes and versions."""
    origin = data.provenance
    started, finished = data.summary.started_at, data.summary.finished_at
    rows = [
        ("seed", str(origin.seed)),
        ("oracle", origin.oracle or "—"),
        ("oracle settings", json.dumps(origin.settings, sort_keys=True) if origin.settings else "—"),
        ("oracle settings hash", origin.settings_hash or "—"),
        ("configuration hash", origin.config_hash),
        ("MLflow experiment", origin.mlflow_experiment or "—"),
        ("started", "—" if started is None else f"{started:%Y-%m-%d %H:%M:%S} UTC"),
        ("finished", "—" if finished is None else f"{finished:%Y-%m-%d %H:%M:%S} UTC"),
        (
            "packages where this page was written",
            ", ".join(f"{name} {version}" for name, version in origin.packages.items()),
        ),
    ]
    return html_table(("", ""), rows).replace("<table>", '<table class="pairs">')


def config_yaml(data: ReportData) -> str:
    """The configuration as it is kept in the database, passwords in URLs left out."""
    text = yaml.safe_dump(data.provenance.config, sort_keys=False, allow_unicode=True)
    return f"<details><summary>Configuration</summary><pre>{escape(without_password(text))}</pre></details>"


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "—" if value is None else str(value)

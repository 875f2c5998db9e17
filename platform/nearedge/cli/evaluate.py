"""``nearedge evaluate``: generated structures beside reference ones."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def evaluate(
    generated: Annotated[Path, typer.Argument(help="Structures to judge (.extxyz).")],
    reference: Annotated[Path, typer.Option(help="Structures to compare with (.extxyz).")],
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare structures with a reference: g(r), angles, coordination, rings, validity, novelty.

    Example: nearedge evaluate generated.extxyz --reference relaxed.extxyz
    """
    from rich.console import Console

    from nearedge_services.structures.evaluate import evaluate as compare
    from nearedge_services.structures.extxyz import read_structures

    result = compare(read_structures(generated), read_structures(reference))
    if json:
        typer.echo(json_module.dumps(result, indent=2))
        return
    console = Console(highlight=False)
    console.print(_whole_table(result))
    if len(result["groups"]) > 1:
        console.print(_groups_table(result["groups"]))
    matched = sum(group["counts"]["generated"] for group in result["groups"])
    if matched < result["generated"]:
        console.print(
            f"{result['generated'] - matched} generated structures have no reference of like density."
        )


def _whole_table(result: dict[str, Any]) -> "Table":
    """The comparison of all with all, and what only makes sense for the ensemble."""
    table = _comparison_table(result["overall"], "All structures")
    validity, novelty, diversity = result["validity"], result["novelty"], result["diversity"]
    table.add_section()
    _row(table, "Share without overlapping atoms", validity["share"], "{:.1%}")
    _row(table, "Shortest contact (Å)", validity["shortest_contact_a"], "{:.3f}")
    least = {name: spread and spread["least_distance"] for name, spread in diversity.items()}
    mean = {name: spread and spread["mean_distance"] for name, spread in diversity.items()}
    _row(table, "Fingerprint distance between structures, mean", mean, "{:.2f}")
    _row(table, "  … least", least, "{:.2f}")
    table.add_row("Fingerprint distance to the reference, mean", f"{novelty['mean_distance']:.2f}", "")
    table.add_row(f"  … share above {novelty['threshold']:g} (novel)", f"{novelty['share']:.1%}", "")
    return table


def _comparison_table(comparison: dict[str, Any], title: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("Measure")
    table.add_column("Generated", justify="right")
    table.add_column("Reference", justify="right")
    _row(table, "Structures", comparison["counts"], "{}")
    _row(table, "Density (g/cm³)", comparison["density_g_cm3"], "{:.3f}")
    _row(table, "Mean bond angle (°)", comparison["bond_angle_mean_deg"], "{:.1f}")
    for number in _keys(comparison["coordination"]):
        _row(table, f"{number}-fold atoms", _pick(comparison["coordination"], number), "{:.1%}")
    for size in _keys(comparison["rings"]):
        _row(table, f"{size}-rings per atom", _pick(comparison["rings"], size), "{:.3f}")
    table.add_section()
    within = {"generated": comparison["g_r_rmse"], "reference": comparison["g_r_rmse_within_reference"]}
    _row(table, "g(r) RMSE to the reference (its halves)", within, "{:.3f}")
    _row(table, "Bond-angle RMSE (per degree)", {"generated": comparison["bond_angle_rmse"]}, "{:.5f}")
    return table


def _groups_table(groups: list[dict[str, Any]]) -> "Table":
    """One line for each density: generated and reference side by side."""
    from rich.table import Table

    table = Table(title="By density: generated | reference", title_justify="left")
    for name in ("g/cm³", "Structures", "g(r) RMSE", "2-fold", "3-fold", "4-fold", "5-rings", "6-rings"):
        table.add_column(name, justify="right")
    for group in groups:
        within = {"generated": group["g_r_rmse"], "reference": group["g_r_rmse_within_reference"]}
        folds = [_both(_pick(group["coordination"], number), "{:.0%}") for number in "234"]
        rings = [_both(_pick(group["rings"], size), "{:.2f}") for size in "56"]
        density = f"{group['density_g_cm3']['reference']:.2f}"
        table.add_row(density, _both(group["counts"], "{}"), _both(within, "{:.2f}"), *folds, *rings)
    return table


def _both(sides: dict[str, Any], form: str) -> str:
    return " | ".join("–" if side is None else form.format(side) for side in sides.values())


def _keys(sides: dict[str, dict[str, float]]) -> list[str]:
    return sorted({key for shares in sides.values() for key in shares}, key=int)


def _pick(sides: dict[str, dict[str, float]], key: str) -> dict[str, float]:
    return {name: shares.get(key, 0.0) for name, shares in sides.items()}


def _row(table: "Table", label: str, sides: dict[str, Any], form: str) -> None:
    cells = [
        "–" if sides.get(name) is None else form.format(sides[name]) for name in ("generated", "reference")
    ]
    table.add_row(label, *cells)

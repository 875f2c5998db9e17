"""The picture of the bench ``scale``."""

from pathlib import Path
from typing import Any

import numpy as np

from nearedge.bench.base import BenchResult
from nearedge.bench.local_order import COORDINATIONS
from nearedge.report.style import COORDINATION_COLOURS, GUIDED, SEED, UNGUIDED


def draw(result: BenchResult, path: Path) -> None:
    """Time and memory per atom, g(r) and coordination against the number of atoms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    sizes = list(result.data["sizes"])
    _draw_times(axes[0, 0], sizes, result.data["paper"])
    _draw_memory(axes[0, 1], sizes)
    _draw_g_r(axes[1, 0], np.asarray(result.data["radii_a"]), dict(result.data["order"]))
    _draw_shares(axes[1, 1], dict(result.data["order"]))
    figure.suptitle(f"Structures of {sizes[0]['n_atoms']:,} to {sizes[-1]['n_atoms']:,} atoms")
    figure.savefig(path, dpi=130)


def _draw_times(axis: Any, sizes: list[dict[str, Any]], paper: dict[str, float]) -> None:
    atoms = [size["n_atoms"] for size in sizes]
    axis.plot(atoms, [size["us_per_atom_evaluation"] for size in sizes], "o-", color=GUIDED, label="here")
    axis.plot(
        paper["atoms"],
        paper["paper_us_per_atom_evaluation"],
        "s",
        color=UNGUIDED,
        label="network of the paper's form",
    )
    axis.set(xscale="log", xlabel="atoms", ylabel="µs per atom and evaluation", ylim=(0, None))
    axis.set_title(f"{paper['atoms']} atoms: {paper['ratio']:.1f} × faster than the paper's recipe")
    axis.legend()


def _draw_memory(axis: Any, sizes: list[dict[str, Any]]) -> None:
    atoms = [size["n_atoms"] for size in sizes]
    axis.plot(atoms, [size["kib_per_atom"] for size in sizes], "o-", color=GUIDED)
    axis.set(xscale="log", xlabel="atoms", ylabel="KiB per atom of a batch", ylim=(0, None))
    axis.set_title(f"peak of the process: {sizes[-1]['peak_gib']:.2f} GiB for {atoms[-1]:,} atoms")


def _draw_g_r(axis: Any, radii: Any, orders: dict[int, dict[str, Any]]) -> None:
    largest = max(orders)
    for number, (n_atoms, order) in enumerate(sorted(orders.items())):
        curve, error = np.asarray(order["g_r"]), np.asarray(order["g_r_error"])
        shift = 1.2 * number
        colour = GUIDED if n_atoms == largest else SEED
        axis.plot(radii, curve + shift, color=colour, lw=1.5, label=f"{n_atoms:,} atoms")
        axis.fill_between(radii, curve + shift - error, curve + shift + error, color=colour, alpha=0.3, lw=0)
        axis.text(6.05, 1 + shift, f"{n_atoms:,}", fontsize=9, va="center")
    axis.set(xlabel="r (Å)", ylabel="g(r), shifted", xlim=(1, 6.7), title="g(r) with standard errors")


def _draw_shares(axis: Any, orders: dict[int, dict[str, Any]]) -> None:
    atoms = sorted(orders)
    for fold in COORDINATIONS:
        shares = [100 * orders[n]["shares"][fold] for n in atoms]
        errors = [100 * orders[n]["share_errors"][fold] for n in atoms]
        axis.errorbar(
            atoms, shares, errors, fmt="o-", capsize=3, color=COORDINATION_COLOURS[fold], label=f"{fold}-fold"
        )
    axis.set(xscale="log", xlabel="atoms", ylabel="share of atoms (%)", title="Coordination")
    axis.legend()

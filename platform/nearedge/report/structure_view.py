"""The best structure in three dimensions (plotly)."""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from nearedge.report.style import COORDINATION_COLOURS, FONT, MUTED

if TYPE_CHECKING:
    from ase import Atoms

HIDDEN = {"visible": False, "showbackground": False}
BOND_COLOUR = "#b8c0ca"
LARGEST_COORDINATION = max(COORDINATION_COLOURS)


def view(atoms: "Atoms") -> go.Figure:
    """Atoms coloured by coordination, bonds (those through a face end half-way), and the cell."""
    from nearedge_services.structures.coordination import coordination_numbers, find_bonds

    positions = atoms.get_positions(wrap=True)
    coordination = coordination_numbers(atoms)
    bonds = find_bonds(atoms)
    halves = [positions[bonds.i], positions[bonds.i] + bonds.vectors_a / 2]
    figure = go.Figure()
    _add_lines(figure, halves[0], halves[1], {"color": BOND_COLOUR, "width": 6})
    _add_lines(figure, *_cell_edges(np.asarray(atoms.cell)), {"color": MUTED, "width": 2})
    for number in np.unique(coordination):
        chosen = coordination == number
        x, y, z = positions[chosen].T
        figure.add_scatter3d(
            x=x,
            y=y,
            z=z,
            mode="markers",
            name=f"{number}-fold",
            text=[f"{symbol}, atom {index}" for index, symbol in enumerate(atoms.symbols) if chosen[index]],
            hoverinfo="text+name",
            marker={"size": 7, "color": _colour(int(number)), "line": {"color": "white", "width": 1}},
        )
    figure.update_layout(
        height=480,
        font={"family": FONT, "size": 13},
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
        scene={"xaxis": HIDDEN, "yaxis": HIDDEN, "zaxis": HIDDEN, "aspectmode": "data"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    return figure


def _colour(coordination: int) -> str:
    return COORDINATION_COLOURS[min(max(coordination, 1), LARGEST_COORDINATION)]


def _add_lines(figure: go.Figure, starts: np.ndarray, ends: np.ndarray, line: dict) -> None:
    """Separate lines as one trace: NaN between them."""
    gaps = np.full_like(starts, np.nan)
    x, y, z = np.stack([starts, ends, gaps], axis=1).reshape(-1, 3).T
    figure.add_scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _cell_edges(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of the twelve edges, each (12, 3) Å."""
    corners = np.array(list(product((0, 1), repeat=3)))
    pairs = [(a, b) for a in corners for b in corners if (b - a).min() == 0 and (b - a).sum() == 1]
    return np.array([a for a, _ in pairs]) @ cell, np.array([b for _, b in pairs]) @ cell

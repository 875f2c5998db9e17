"""Structures as the graphs MACE reads: neighbour lists, one-hot species, and how several become one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from matscipy.neighbours import neighbour_list

from nearedge_db.errors import UserError
from nearedge_services.potential.errors import NonFiniteForces

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Graph:
    """One periodic structure; float32, Å.

    Shapes: positions (N,3), cell (3,3), species (N,E) one-hot, edges (2,K), shifts (K,3) cartesian,
    unit_shifts (K,3) in cell vectors.
    """

    positions: torch.Tensor
    cell: torch.Tensor
    species: torch.Tensor
    edges: torch.Tensor
    shifts: torch.Tensor
    unit_shifts: torch.Tensor

    @property
    def size(self) -> int:
        """Number of atoms."""
        return len(self.positions)


def check_elements(numbers: np.ndarray, elements: Sequence[int]) -> None:
    """UserError when the structure has an element that the potential was not trained on."""
    missing = sorted({int(z) for z in numbers} - set(elements))
    if missing:
        raise UserError(
            "the potential does not know an element",
            got=f"atomic numbers {missing}",
            fix=f"use only {sorted(elements)}, or train a potential on structures that have them",
        )


def graph_of(atoms: "Atoms", elements: Sequence[int], cutoff_a: float) -> Graph:
    """Neighbour list and species of one structure.

    Raises UserError for an element the potential does not know, NonFiniteForces where positions or cell are
    not finite or the cell has no volume.
    """
    check_elements(atoms.numbers, elements)
    cell = np.asarray(atoms.cell, dtype=float)
    if not (
        np.isfinite(atoms.positions).all() and np.isfinite(cell).all() and abs(np.linalg.det(cell)) > 1e-3
    ):
        raise NonFiniteForces("positions or cell are not finite, or the cell has no volume")
    first, second, images = neighbour_list("ijS", atoms, cutoff_a)
    index = torch.tensor([elements.index(int(z)) for z in atoms.numbers])
    return Graph(
        positions=torch.tensor(atoms.positions, dtype=torch.float32),
        cell=torch.tensor(cell, dtype=torch.float32),
        species=torch.nn.functional.one_hot(index, len(elements)).float(),
        edges=torch.tensor(np.stack([first, second]), dtype=torch.int64),
        shifts=torch.tensor(images @ cell, dtype=torch.float32),
        unit_shifts=torch.tensor(images, dtype=torch.float32),
    )


def collate(graphs: Sequence[Graph], device: torch.device) -> dict[str, torch.Tensor]:
    """One batch in the form `ScaleShiftMACE.forward` takes; atoms stay in the order of the graphs."""
    sizes = [graph.size for graph in graphs]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    edges = torch.cat([graph.edges + int(start) for graph, start in zip(graphs, starts, strict=False)], dim=1)
    batch = {
        "positions": torch.cat([graph.positions for graph in graphs]),
        "cell": torch.cat([graph.cell for graph in graphs]),
        "node_attrs": torch.cat([graph.species for graph in graphs]),
        "shifts": torch.cat([graph.shifts for graph in graphs]),
        "unit_shifts": torch.cat([graph.unit_shifts for graph in graphs]),
        "edge_index": edges,
        "batch": torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes)),
        "ptr": torch.tensor(starts),
        "head": torch.zeros(len(graphs), dtype=torch.int64),
    }
    return {key: value.to(device) for key, value in batch.items()}


def chunks(graphs: Sequence[Graph], max_atoms: int) -> list[list[int]]:
    """Indices of consecutive graphs, cut so that no chunk has more than `max_atoms` atoms (or is a single
    graph).
    """
    result: list[list[int]] = []
    filled = max_atoms + 1
    for index, graph in enumerate(graphs):
        if filled + graph.size > max_atoms:
            result.append([])
            filled = 0
        result[-1].append(index)
        filled += graph.size
    return result

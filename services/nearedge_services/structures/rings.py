"""Shortest-path rings of the bond network."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from matscipy.ffi import distances_on_graph, find_sp_rings

from nearedge_services.structures.coordination import find_bonds

LEAST_SIDE_A = 12.0
"""A ring must not close through its own periodic image: cells are repeated until they are this thick, Å."""


def ring_statistics(atoms: Atoms, max_size: int = 10) -> dict[int, float]:
    """Shortest-path rings per atom by size (3 … max_size), Franzblau, Phys. Rev. B 44, 4925 (1991).

    A ring is shortest-path when no two of its atoms are joined by a path shorter than along the ring. Cells
    thinner than 12 Å are repeated first. Diamond has two six-rings per atom, graphite a half.
    """
    large = atoms * _repeats(atoms)
    bonds = find_bonds(large)
    if len(bonds.i) == 0:
        return dict.fromkeys(range(3, max_size + 1), 0.0)
    i, j = bonds.i.astype(np.int32), bonds.j.astype(np.int32)
    # One size more: the search leaves rings of an even largest size out.
    counts = np.asarray(find_sp_rings(i, j, bonds.vectors_a, distances_on_graph(i, j), max_size + 1))
    return {
        size: float(counts[size]) / len(large) if size < len(counts) else 0.0
        for size in range(3, max_size + 1)
    }


def ring_shares(atoms_list: Sequence[Atoms], max_size: int = 10) -> dict[int, float]:
    """Rings per atom by size, averaged over structures."""
    each = [ring_statistics(atoms, max_size) for atoms in atoms_list]
    return {size: float(np.mean([one[size] for one in each])) for size in range(3, max_size + 1)}


def _repeats(atoms: Atoms) -> tuple[int, int, int]:
    """How often to repeat each periodic direction for the cell to be thick enough."""
    heights = (
        1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
        if atoms.cell.rank == 3
        else np.full(3, np.inf)
    )
    counts = [
        int(np.ceil(LEAST_SIDE_A / h - 1e-9)) if p else 1 for h, p in zip(heights, atoms.pbc, strict=True)
    ]
    return counts[0], counts[1], counts[2]

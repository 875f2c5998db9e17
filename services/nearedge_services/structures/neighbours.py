"""Pairs of atoms within a distance, with every periodic image counted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from vesin import NeighborList


@dataclass(frozen=True)
class Pairs:
    """Directed pairs: each contact appears as i→j and as j→i; an atom's own images count."""

    i: npt.NDArray[np.int64]
    """First atoms, shape (P,), ascending."""
    j: npt.NDArray[np.int64]
    """Second atoms, shape (P,)."""
    distances_a: npt.NDArray[np.float64]
    """Distances in Å, shape (P,)."""
    vectors_a: npt.NDArray[np.float64]
    """From i to the image of j in Å, shape (P, 3)."""

    def select(self, keep: npt.NDArray[np.bool_]) -> "Pairs":
        """The pairs where `keep` (P,) is true."""
        return Pairs(self.i[keep], self.j[keep], self.distances_a[keep], self.vectors_a[keep])


def find_pairs(atoms: Atoms, cutoff_a: float) -> Pairs:
    """All directed pairs closer than ``cutoff_a`` Å, periodic where the structure is."""
    search = NeighborList(cutoff=cutoff_a, full_list=True, sorted=True, n_threads=1)
    # Pair vectors do not depend on the choice of image, and positions inside the cell keep their digits.
    positions = atoms.get_positions(wrap=True) if atoms.pbc.any() else atoms.positions
    i, j, distances, vectors = search.compute(positions, atoms.cell.array, atoms.pbc, "ijdD")
    return Pairs(i.astype(np.int64), j.astype(np.int64), distances, vectors)

"""The bond-order potential for C, Si and SiC: P. Erhart and K. Albe, Phys. Rev. B 71, 035211 (2005)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import TersoffBrenner
from matscipy.calculators.manybody.explicit_forms.tersoff_brenner import Erhart_PRB_71_035211_SiC
from matscipy.neighbours import CutoffNeighbourhood, first_neighbours, neighbour_list, triplet_list

ELEMENTS = ("C", "Si")
"""What the potential describes."""


def bond_order_potential() -> Calculator:
    """ASE calculator: energy in eV, forces in eV/Å."""
    parameters = TersoffBrenner(Erhart_PRB_71_035211_SiC)
    neighbourhood = _PairsOnce(parameters["atom_type"], parameters["pair_type"])
    neighbourhood.reach_a = np.asarray(parameters["cutoff"])
    return Manybody(**parameters, neighbourhood=neighbourhood)


class _PairsOnce(CutoffNeighbourhood):
    """Finds the pairs once an evaluation, and leaves out the third side of each triplet.

    matscipy searches twice and looks the third side up in a Python loop, although the energy and the forces
    of this potential never use it: that costs nearly half of the time. Pairs beyond the reach of their own
    elements, where the potential is zero, go at once.
    """

    reach_a: npt.NDArray[np.float64]
    """Cutoff of each pair type, Å."""

    def get_pairs(self, atoms: Atoms, quantities: str, cutoff: float | None = None) -> Any:
        if quantities != "ijdD":
            return super().get_pairs(atoms, quantities, cutoff)
        i_p, j_p, distances, vectors = neighbour_list(
            quantities, atoms, self.cutoff if cutoff is None else cutoff
        )
        types = self.atom_type(atoms.numbers)
        near = distances < self.reach_a[self.pair_type(types[i_p], types[j_p])]
        self._pairs = (i_p[near], j_p[near], distances[near], vectors[near])
        return self._pairs

    def get_triplets(
        self, atoms: Atoms, quantities: str, neighbours: Any = None, cutoff: float | None = None
    ) -> Any:
        if quantities != "ijdD" or neighbours is not None:
            return super().get_triplets(atoms, quantities, neighbours, cutoff)
        i_p, _, distances, vectors = self._pairs
        if not len(i_p):  # matscipy's triplet_list crashes the interpreter on an empty list
            none = np.empty(0, dtype=int)
            return none, none, np.empty((0, 3)), np.empty((0, 3, 3))
        ij, ik = triplet_list(first_neighbours(len(atoms), i_p), distances, self.cutoff)
        sides = np.stack([vectors[ij], vectors[ik], vectors[ik] - vectors[ij]], axis=1)
        return ij, ik, np.linalg.norm(sides, axis=-1), sides

"""Who is bonded to whom: bond cutoffs, coordination numbers and the shortest contact."""

from functools import cache

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from nearedge_services.structures.neighbours import Pairs, find_pairs

BOND_CUTOFFS_A = {("C", "C"): 1.85, ("Si", "Si"): 2.75, ("C", "Si"): 2.30}
"""First minima of g(r) in the amorphous phases, Å; keys in alphabetical order."""

COVALENT_FACTOR = 1.22
"""Pairs without a tabulated cutoff bond below this multiple of their covalent radii (Cordero 2008)."""

_CONTACT_SEARCH_A = (2.0, 4.0, 8.0, 16.0, 32.0)


@cache
def bond_cutoff(first: str, second: str) -> float:
    """Bond cutoff of two elements in Å."""
    low, high = sorted((first, second))
    if (low, high) in BOND_CUTOFFS_A:
        return BOND_CUTOFFS_A[low, high]
    radii = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]
    return float(COVALENT_FACTOR * radii)


def pair_cutoffs(pairs: Pairs, atoms: Atoms) -> npt.NDArray[np.float64]:
    """The bond cutoff of every pair in Å, shape (P,)."""
    elements = np.unique(atoms.numbers)
    symbols = [chemical_symbols[number] for number in elements]
    table = np.array([[bond_cutoff(first, second) for second in symbols] for first in symbols])
    species = np.searchsorted(elements, atoms.numbers)
    return table[species[pairs.i], species[pairs.j]]


def largest_bond_cutoff(atoms: Atoms) -> float:
    """The longest bond cutoff among the elements of a structure, Å."""
    symbols = sorted(set(atoms.get_chemical_symbols()))
    return max(bond_cutoff(first, second) for first in symbols for second in symbols)


def find_bonds(atoms: Atoms) -> Pairs:
    """Bonded pairs (directed, both ways), every one shorter than the cutoff of its elements."""
    pairs = find_pairs(atoms, largest_bond_cutoff(atoms))
    return pairs.select(pairs.distances_a < pair_cutoffs(pairs, atoms))


def coordination_numbers(atoms: Atoms) -> npt.NDArray[np.int64]:
    """Number of bonds of every atom, shape (N,)."""
    return np.bincount(find_bonds(atoms).i, minlength=len(atoms)).astype(np.int64)


def coordination_fractions(atoms: Atoms, element: str | None = None) -> dict[int, float]:
    """Share of the atoms (of one element, if named) with each coordination number.

    The keys 2, 3 and 4 are always there, others when they occur; the shares add up to one.
    Raises ValueError when no atom is counted.
    """
    counted = np.ones(len(atoms), bool) if element is None else atoms.numbers == atomic_numbers[element]
    if not counted.any():
        raise ValueError(f"no atom to count: {element=} in {atoms.get_chemical_formula()!r}")
    histogram = np.bincount(coordination_numbers(atoms)[counted], minlength=5) / counted.sum()
    return {
        number: float(share) for number, share in enumerate(histogram) if share > 0 or number in {2, 3, 4}
    }


def shortest_contact(atoms: Atoms) -> float:
    """The shortest distance between two atoms (images included) in Å; infinite for a lone free atom."""
    for radius_a in _CONTACT_SEARCH_A:
        distances = find_pairs(atoms, radius_a).distances_a
        if len(distances):
            return float(distances.min())
    return float("inf")

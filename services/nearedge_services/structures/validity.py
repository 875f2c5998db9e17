"""Whether a structure is physically possible at all: no two atoms on top of each other."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from nearedge_services.structures.neighbours import find_pairs

CONTACT_FACTOR = 0.75
"""Shortest allowed contact over the sum of covalent radii (Cordero 2008): 1.14 Å for carbon.

The shortest bonds of relaxed amorphous carbon are 1.22 Å."""


def is_valid(atoms: Atoms, contact_factor: float = CONTACT_FACTOR) -> bool:
    """Whether all positions are finite and no two atoms are closer than the factor × their covalent radii."""
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return False
    radii = covalent_radii[atoms.numbers]
    pairs = find_pairs(atoms, float(2 * radii.max() * contact_factor))
    return bool((pairs.distances_a >= contact_factor * (radii[pairs.i] + radii[pairs.j])).all())


def relative_contact(atoms: Atoms) -> float:
    """Shortest contact over the sum of the covalent radii of its two atoms; infinite where none is within 2."""
    radii = covalent_radii[atoms.numbers]
    pairs = find_pairs(atoms, float(4 * radii.max()))
    if len(pairs.i) == 0:
        return float("inf")
    return float((pairs.distances_a / (radii[pairs.i] + radii[pairs.j])).min())

"""Atoms that keep their places while others are generated or moved around them."""

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.constraints import FixAtoms

FIXED = "fixed"
"""Boolean per-atom array of a structure: true where the atom stays."""


def fixed_atoms(atoms: Atoms) -> npt.NDArray[np.bool_]:
    """Which atoms stay, (N,): those true in the array ``fixed`` and those of a ``FixAtoms`` constraint."""
    stays = np.array(atoms.arrays.get(FIXED, np.zeros(len(atoms))), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            stays[constraint.index] = True
    return stays

"""Structures labelled by a Morse pair potential: cheap, smooth, and exact."""

import numpy as np
from ase import Atoms
from ase.calculators.morse import MorsePotential

_MORSE = {"epsilon": 1.5, "r0": 1.8, "rho0": 3.0, "rcut1": 2.6, "rcut2": 3.4}


def crystal(symbols="CCCCCCCC", length=4.2):
    """Eight atoms on a simple cubic lattice, or as many more as the symbols ask for along x."""
    count = len(symbols) // 8
    places = np.array([[i, j, k] for i in range(2 * count) for j in range(2) for k in range(2)]) * length / 2
    return Atoms(symbols, positions=places, cell=[length * count, length, length], pbc=True)


def labelled(seed, symbols="CCCCCCCC", rattle=0.12, energy_offset=-50.0):
    rng = np.random.default_rng(seed)
    atoms = crystal(symbols, length=4.2 * rng.uniform(0.95, 1.05))
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    atoms.calc = MorsePotential(**_MORSE)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    result = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    result.info |= {"REF_energy": energy + energy_offset * len(atoms), "group": f"g{seed // 2}"}
    result.arrays["REF_forces"] = forces
    return result


def rotation(seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.linalg.det(matrix))

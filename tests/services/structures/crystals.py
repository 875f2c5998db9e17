"""Crystals and networks whose structure is known."""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.lattice.hexagonal import Graphite
from tests.reference import reference_path


def diamond() -> Atoms:
    return bulk("C", "diamond", a=3.567, cubic=True)


def graphite() -> Atoms:
    return Graphite("C", latticeconstant={"a": 2.461, "c": 6.708})


def silicon_carbide() -> Atoms:
    return bulk("SiC", "zincblende", a=4.36, cubic=True)


def networks() -> list[Atoms]:
    """The independent networks of amorphous carbon of the reference."""
    from nearedge_services.structures.extxyz import read_structures

    return read_structures(reference_path("ac_nep_dev.extxyz"))


def rattled(atoms: Atoms, sigma_a: float, seed: int) -> Atoms:
    copy = atoms.copy()
    copy.positions += np.random.default_rng(seed).normal(0, sigma_a, copy.positions.shape)
    return copy


def random_gas(count: int, side_a: float, seed: int) -> Atoms:
    positions = np.random.default_rng(seed).uniform(0, side_a, (count, 3))
    return Atoms(f"C{count}", positions=positions, cell=[side_a] * 3, pbc=True)

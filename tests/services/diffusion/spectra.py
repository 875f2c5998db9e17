"""Structures with a spectrum that tells which crystal they are, for the tests of the condition."""

import numpy as np
from ase.build import bulk

from nearedge_services.spectra.grid import EnergyGrid

GRID = EnergyGrid(0.0, 10.0, 0.5)


def peak(centre):
    """A spectrum (G,) of unit area with one peak, eV."""
    shape = 0.2 + np.exp(-0.5 * (GRID.energies - centre) ** 2)
    return shape / (GRID.weights @ shape)


def labelled(atoms, centre, rng=None):
    """The structure with one peak in the spectrum of all its atoms, which differ a little."""
    rng = np.random.default_rng(0) if rng is None else rng
    atoms = atoms.copy()
    scatter = rng.normal(scale=0.02, size=(len(atoms), 1))
    atoms.arrays["xanes"] = 3.0 * peak(centre) * (1 + scatter - scatter.mean())
    atoms.info["xanes_energies"] = GRID.energies
    return atoms


def networks(count, seed):
    """Carbon in one cell, by turns diamond with its peak at 3 eV and simple cubic with its peak at 7 eV."""
    frames = []
    for k in range(count):
        atoms = bulk("C", cubic=True)
        if k % 2:
            atoms.set_scaled_positions(np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), axis=-1).reshape(-1, 3))
        atoms.rattle(0.03, seed=seed + k)
        frames.append(labelled(atoms, 7.0 if k % 2 else 3.0, np.random.default_rng(seed + k)))
    return frames

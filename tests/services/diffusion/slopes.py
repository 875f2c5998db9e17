"""Differences instead of derivatives, and structures to take them on."""

from dataclasses import replace

import numpy as np
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from nearedge_services.diffusion.guidance import strained
from nearedge_services.networks.graph import Batch


def networks(elements=("C",), counts=(6, 9), seed=0):
    """Small random cells without close contacts, elements by turns."""
    rng = np.random.default_rng(seed)
    frames = []
    for count in counts:
        cell = 4.2 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
        sites = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) / 3
        positions = rng.permutation(sites)[:count] @ cell + rng.normal(scale=0.15, size=(count, 3))
        symbols = [elements[k % len(elements)] for k in range(count)]
        frames.append(Atoms(symbols, positions=positions, cell=cell, pbc=True))
    return frames


def batch_of(frames, elements=("C",)):
    """The frames in double precision."""
    return Batch.from_atoms(frames, elements, dtype=torch.float64)


def slope_by_position(value, batch, atom, axis, step=1e-4):
    """Fourth-order difference of the sum of the values, 1/Å."""
    shift = torch.zeros_like(batch.positions)
    shift[atom, axis] = step

    def total(k):
        return value(batch.with_positions(batch.positions + k * shift)).sum().item()

    return (8 * (total(1) - total(-1)) - (total(2) - total(-2))) / (12 * step)


def slope_by_strain(value, batch, structure, step=1e-4):
    """The same for scaling cell and positions of one structure together."""
    shift = torch.zeros(batch.size, dtype=torch.float64)
    shift[structure] = step

    def total(k):
        return value(strained(batch, k * shift)).sum().item()

    return (8 * (total(1) - total(-1)) - (total(2) - total(-2))) / (12 * step)


def turned(batch, seed=0):
    """A turned, mirrored, moved batch with some atoms in other periodic images, and the turn (3, 3)."""
    rng = np.random.default_rng(seed)
    turn = torch.as_tensor(-Rotation.random(rng=seed).as_matrix())
    images = torch.as_tensor(rng.integers(-2, 3, size=(len(batch.positions), 3)), dtype=torch.float64)
    shifted = batch.positions + torch.einsum("ni,nij->nj", images, batch.cells[batch.structure]) + 0.7
    return replace(batch, positions=shifted @ turn.T, cells=batch.cells @ turn.T), turn

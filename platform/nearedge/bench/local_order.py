"""g(r) and coordination with statistical errors, from many small structures or from the parts of a large one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.neighbours import find_pairs

Array = npt.NDArray[np.float64]

R_MAX_A = 6.0
BINS = 60
COORDINATIONS = (2, 3, 4)
SAMPLE_ATOMS = 216
"""A larger structure is divided into boxes with about so many atoms, each one sample."""


@dataclass(frozen=True)
class LocalOrder:
    """Samples of g(r), (M, BINS), and of the shares of two-, three- and four-fold atoms, (M, 3)."""

    g_r: Array
    shares: Array

    @staticmethod
    def radii() -> Array:
        """Bin centres of g(r) (BINS,) in Å."""
        return (np.arange(BINS) + 0.5) * R_MAX_A / BINS


def local_order(structures: Sequence[Atoms]) -> LocalOrder:
    """Every structure, or box of a large structure, is one sample of its atoms and all their neighbours."""
    curves, shares = [], []
    for atoms in structures:
        boxes = boxes_of(atoms)
        edges: Array = np.linspace(0, R_MAX_A, BINS + 1)
        pairs = find_pairs(atoms, R_MAX_A)
        found = np.minimum((pairs.distances_a / R_MAX_A * BINS).astype(np.int64), BINS - 1)
        n_boxes = int(boxes.max()) + 1
        counts = np.bincount(boxes[pairs.i] * BINS + found, minlength=n_boxes * BINS).reshape(n_boxes, BINS)
        sizes = np.bincount(boxes, minlength=n_boxes)
        ideal = len(atoms) / atoms.cell.volume * 4 / 3 * np.pi * np.diff(edges**3)
        filled = sizes > 0
        curves.append(counts[filled] / sizes[filled, None] / ideal)
        coordination = coordination_numbers(atoms)
        folds = [np.bincount(boxes, coordination == fold, n_boxes)[filled] for fold in COORDINATIONS]
        shares.append(np.stack(folds, axis=1) / sizes[filled, None])
    return LocalOrder(np.concatenate(curves), np.concatenate(shares))


def boxes_of(atoms: Atoms) -> npt.NDArray[np.int64]:
    """The box (N,) of each atom when the cell is cut into equal boxes of about SAMPLE_ATOMS atoms."""
    cuts = max(round((len(atoms) / SAMPLE_ATOMS) ** (1 / 3)), 1)
    place = (atoms.get_scaled_positions(wrap=True) * cuts).astype(np.int64).clip(max=cuts - 1)
    boxes: npt.NDArray[np.int64] = (place[:, 0] * cuts + place[:, 1]) * cuts + place[:, 2]
    return boxes


def mean_and_error(samples: Array) -> tuple[Array, Array]:
    """Mean and standard error over the samples (M, …). Raises ValueError for fewer than two."""
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} samples have no standard error")
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(len(samples))


def difference(one: Array, other: Array) -> tuple[Array, Array]:
    """Of the means of two sets of samples (M, …) and (L, …): absolute difference and its standard error."""
    (mean, error), (other_mean, other_error) = mean_and_error(one), mean_and_error(other)
    return np.abs(mean - other_mean), np.hypot(error, other_error)

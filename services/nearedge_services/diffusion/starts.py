"""Cells without positions, and the random positions that sampling starts from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_services.structures.composition import Composition, cubic_cell


def empty_cells(composition: Composition, densities: Sequence[float]) -> list[Atoms]:
    """One cubic cell per density in g/cm³ with the composition's atoms, all still at the origin."""
    return [
        Atoms(
            numbers=composition.numbers,
            positions=np.zeros((composition.size, 3)),
            cell=cubic_cell(composition, density),
            pbc=True,
        )
        for density in densities
    ]


def uniform_start(
    cell: npt.NDArray[np.float64], count: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """`count` independent uniform positions (N, 3) Å in a cell (3, 3) Å."""
    return rng.random((count, 3)) @ cell


def lattice_start(
    cell: npt.NDArray[np.float64], count: int, jitter_a: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Random sites of a lattice that fills the cell evenly, each moved by a Gaussian jitter in Å; (N, 3) Å.

    Keeps the density even on the scale of the cell, which uniform positions do not.
    """
    shape = _grid_shape(np.linalg.norm(cell, axis=1), count)
    sites = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3) / shape
    chosen = rng.permutation(len(sites))[:count]
    return (sites[chosen] + rng.random(3)) @ cell + rng.normal(scale=jitter_a, size=(count, 3))


def _grid_shape(lengths: npt.NDArray[np.float64], count: int) -> tuple[int, int, int]:
    """Smallest grid with `count` points or more among those with spacings near the ideal one."""
    ideal = lengths * (count / lengths.prod()) ** (1 / 3)
    options = [sorted({max(int(np.floor(n)), 1), int(np.ceil(n)), int(np.ceil(n)) + 1}) for n in ideal]
    shapes = [(a, b, c) for a in options[0] for b in options[1] for c in options[2] if a * b * c >= count]
    return min(shapes, key=lambda shape: (np.prod(shape), max(lengths / shape)))

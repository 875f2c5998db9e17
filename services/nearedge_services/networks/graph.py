"""Periodic structures as flat tensors, and who is near whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor
from vesin import NeighborList

from nearedge_db.errors import UserError


@dataclass(frozen=True)
class Batch:
    """B periodic structures with N atoms in all, one after another.

    positions: (N, 3) Å, wrapped or not; cells: (B, 3, 3) Å, rows are the lattice vectors;
    structure: (N,) int64, ascending, the structure an atom belongs to; species: (N,) int64, index into the
    element list of the network; counts: (B,) int64, atoms of each structure.
    """

    positions: Tensor
    cells: Tensor
    structure: Tensor
    species: Tensor
    counts: Tensor

    @classmethod
    def from_atoms(
        cls,
        atoms_list: Sequence[Atoms],
        elements: Sequence[str],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Batch":
        """Build a batch; raises UserError for an element outside `elements` or a cell without volume."""
        if not atoms_list:
            raise ValueError("a batch needs at least one structure")
        counts = [len(atoms) for atoms in atoms_list]
        for atoms in atoms_list:
            if not len(atoms) or abs(atoms.cell.volume) < 1e-6:
                raise UserError(
                    "a structure has no atoms or no cell",
                    got=atoms.get_chemical_formula(),
                    fix="give a periodic cell",
                )
        species = species_index(np.concatenate([atoms.numbers for atoms in atoms_list]), elements)
        positions = np.concatenate([atoms.positions for atoms in atoms_list])
        cells = np.stack([atoms.cell.array for atoms in atoms_list])
        return cls(
            positions=torch.as_tensor(positions, dtype=dtype, device=device),
            cells=torch.as_tensor(cells, dtype=dtype, device=device),
            structure=torch.as_tensor(np.repeat(np.arange(len(counts)), counts), device=device),
            species=torch.as_tensor(species, device=device),
            counts=torch.as_tensor(counts, dtype=torch.int64, device=device),
        )

    def with_positions(self, positions: Tensor) -> "Batch":
        """The same structures at other positions (N, 3) Å."""
        return replace(self, positions=positions)

    @property
    def size(self) -> int:
        """Number of structures, B."""
        return len(self.counts)

    @property
    def number_densities(self) -> Tensor:
        """Atoms per Å³ of each structure, shape (B,)."""
        return self.counts / torch.linalg.det(self.cells).abs()


@dataclass(frozen=True)
class Neighbours:
    """Neighbours within the cutoff, padded to the largest number K of any atom.

    index: (N, K) int64 into the atoms of the batch; offset: (N, K, 3) Å, the lattice translation of that
    image; mask: (N, K) bool, False where padded. A padded entry is the atom itself, translated by exactly the
    cutoff.
    """

    index: Tensor
    offset: Tensor
    mask: Tensor

    def displacements(self, positions: Tensor) -> Tensor:
        """Vectors from each atom to its neighbours, (N, K, 3) Å, differentiable in positions (N, 3)."""
        return positions[self.index] + self.offset - positions[:, None]


def species_index(numbers: np.ndarray, elements: Sequence[str]) -> np.ndarray:
    """Index into `elements` of each atomic number, (N,) int64.

    UserError names the element that is missing.
    """
    table = np.full(len(chemical_symbols), -1, dtype=np.int64)
    for position, element in enumerate(elements):
        table[atomic_numbers[element]] = position
    species = table[numbers]
    if (species < 0).any():
        unknown = sorted({chemical_symbols[number] for number in numbers[species < 0]})
        raise UserError(
            "the model does not know these elements",
            got=", ".join(unknown),
            fix=f"use {', '.join(elements)}, or train a model with them",
        )
    return species


def find_neighbours(batch: Batch, cutoff: float) -> Neighbours:
    """All periodic neighbours nearer than `cutoff` Å, several images of one atom included.

    Raises FloatingPointError when positions are not finite: a cell list would crash on them.
    """
    points = batch.positions.detach().cpu().double().numpy()
    if not np.isfinite(points).all():
        raise FloatingPointError("positions are not finite")
    cells = batch.cells.detach().cpu().double().numpy()
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    centres, others, offsets = [], [], []
    first = 0
    for cell, count in zip(cells, batch.counts.tolist(), strict=True):
        i, j, shift = search.compute(points[first : first + count], cell, True, "ijS")
        centres.append(i.astype(np.int64) + first)
        others.append(j.astype(np.int64) + first)
        offsets.append(shift @ cell)
        first += count
    return _padded(np.concatenate(centres), np.concatenate(others), np.concatenate(offsets), batch, cutoff)


def _padded(
    centres: np.ndarray, others: np.ndarray, offsets: np.ndarray, batch: Batch, cutoff: float
) -> Neighbours:
    n_atoms = len(batch.positions)
    degree = np.bincount(centres, minlength=n_atoms)
    width = max(int(degree.max(initial=0)), 1)
    rank = np.arange(len(centres)) - np.repeat(np.cumsum(degree) - degree, degree)
    index = np.repeat(np.arange(n_atoms)[:, None], width, axis=1)
    offset = np.zeros((n_atoms, width, 3))
    offset[..., 0] = cutoff
    mask = np.zeros((n_atoms, width), dtype=bool)
    index[centres, rank] = others
    offset[centres, rank] = offsets
    mask[centres, rank] = True
    device = batch.positions.device
    return Neighbours(
        index=torch.as_tensor(index, device=device),
        offset=torch.as_tensor(offset, dtype=batch.positions.dtype, device=device),
        mask=torch.as_tensor(mask, device=device),
    )


def mean_by_structure(values: Tensor, batch: Batch) -> Tensor:
    """Mean of per-atom `values` (N, …) over the atoms of each structure, (B, …)."""
    sums = values.new_zeros((batch.size, *values.shape[1:])).index_add(0, batch.structure, values)
    return sums / batch.counts.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))

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

    def displacements(self, positions: Tensor, centres: slice = slice(None)) -> Tensor:
        """Vectors from each atom to its neighbours, (N, K, 3) Å, differentiable in positions (N, 3).

        centres: only those of these atoms.
        """
        index = self.index[centres]
        others = positions.index_select(0, index.reshape(-1)).reshape(*index.shape, 3)
        return others + self.offset[centres] - positions[centres, None]


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

    Their offsets are differentiable in the cells.

    Raises FloatingPointError when positions are not finite: a cell list would crash on them.
    """
    points = batch.positions.detach().cpu().double().numpy()
    if not np.isfinite(points).all():
        raise FloatingPointError("positions are not finite")
    cells = batch.cells.detach().cpu().double().numpy()
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=torch.get_num_threads())
    centres, others, offsets = [], [], []
    first = 0
    for cell, lattice, count in zip(cells, batch.cells.cpu(), batch.counts.tolist(), strict=True):
        i, j, shift = search.compute(points[first : first + count], cell, True, "ijS")
        centres.append(_shifted(i, first))
        others.append(_shifted(j, first))
        offsets.append(torch.from_numpy(shift).to(lattice.dtype) @ lattice)
        first += count
    found = _padded(_joined(centres), _joined(others), _joined(offsets), first, cutoff)
    device = batch.positions.device
    return Neighbours(found.index.to(device), found.offset.to(device), found.mask.to(device))


def _shifted(index: np.ndarray, first: int) -> Tensor:
    """Indices (P,) within a structure whose first atom is number `first` as indices into the batch."""
    numbers = torch.from_numpy(index.astype(np.int64, copy=False))
    return numbers + first if first else numbers


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _padded(centres: Tensor, others: Tensor, offsets: Tensor, n_atoms: int, cutoff: float) -> Neighbours:
    """Pairs (P,), sorted by centre, and the offsets (P, 3) of the other atom as rows of equal length."""
    degree = torch.bincount(centres, minlength=n_atoms)
    width = max(int(degree.max()), 1)
    mask = torch.arange(width) < degree[:, None]
    filled = mask.reshape(-1).nonzero()[:, 0]
    itself = torch.arange(n_atoms).repeat_interleave(width)
    offset = offsets.new_zeros(n_atoms * width, 3)
    offset[:, 0] = cutoff
    return Neighbours(
        index=itself.index_copy_(0, filled, others).reshape(n_atoms, width),
        offset=offset.index_copy_(0, filled, offsets).reshape(n_atoms, width, 3),
        mask=mask,
    )


def mean_by_structure(values: Tensor, batch: Batch) -> Tensor:
    """Mean of per-atom `values` (N, …) over the atoms of each structure, (B, …)."""
    sums = values.new_zeros((batch.size, *values.shape[1:])).index_add(0, batch.structure, values)
    return sums / batch.counts.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))

"""Sums over neighbours as matrix products.

Every message here is a radial function times a feature of the neighbour, Σ_k w_b(r_ik) φ_c(k). Being linear
in the radial functions it needs no tensor per pair and channel: products of (rows, neighbours) with
(neighbours, channels) matrices do it. `PaddedSums` gathers the K neighbours of each atom. `DenseSums` first
adds up the images of each pair inside one cell and then multiplies n × n matrices: no gather, faster where a
cell has about as many atoms as an atom has neighbours. Both give the same sums.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nearedge_services.networks.graph import Batch, Neighbours

DENSE_RATIO = 1.5
"""Matrices per cell are the faster layout up to so many atoms per padded neighbour (measured on a CPU)."""


class Sums(Protocol):
    """Neighbour sums with the scalar weights w_b(r) and the vector weights w_b(r) r̂."""

    def scalar(self, features: Tensor) -> Tensor:
        """Σ_k w_b(r_ik) f_c(k): features (N, C) to (N, R, C)."""
        ...

    def vector(self, features: Tensor) -> Tensor:
        """Σ_k w_b(r_ik) r̂_ik f_c(k): features (N, C) to (N, 3, R, C)."""
        ...


@dataclass(frozen=True)
class PaddedSums:
    """Gathers features of the padded neighbours; weights: (N, 4R, K), R scalar rows, then 3R vector rows."""

    weights: Tensor
    index: Tensor

    @property
    def n_radial(self) -> int:
        """R."""
        return self.weights.shape[1] // 4

    def scalar(self, features: Tensor) -> Tensor:
        """See `Sums.scalar`."""
        return torch.bmm(self.weights[:, : self.n_radial], features[self.index])

    def vector(self, features: Tensor) -> Tensor:
        """See `Sums.vector`."""
        sums = torch.bmm(self.weights[:, self.n_radial :], features[self.index])
        return sums.reshape(len(self.index), 3, self.n_radial, -1)


@dataclass(frozen=True)
class DenseSums:
    """Multiplies per cell.

    Scalar_weights: (B, nR, n), vector_weights: (B, 3nR, n) of B cells with n atoms each.
    """

    scalar_weights: Tensor
    vector_weights: Tensor

    def scalar(self, features: Tensor) -> Tensor:
        """See `Sums.scalar`."""
        return self._product(self.scalar_weights, features).reshape(len(features), -1, features.shape[-1])

    def vector(self, features: Tensor) -> Tensor:
        """See `Sums.vector`."""
        return self._product(self.vector_weights, features).reshape(len(features), 3, -1, features.shape[-1])

    @staticmethod
    def _product(weights: Tensor, features: Tensor) -> Tensor:
        return torch.bmm(weights, features.reshape(len(weights), -1, features.shape[-1]))


def neighbour_sums(radial: Tensor, units: Tensor, neighbours: Neighbours, batch: Batch) -> Sums:
    """Choose the faster layout; radial: (N, K, R), zero where padded; units: (N, K, 3)."""
    weights = torch.cat([radial[:, :, None], units[..., None] * radial[:, :, None]], dim=2)
    counts = batch.counts
    n_cell, width = int(counts[0]), neighbours.index.shape[1]
    if bool((counts == n_cell).all()) and n_cell <= DENSE_RATIO * width:
        return _dense(weights, neighbours.index, n_cell)
    return PaddedSums(weights.flatten(2).transpose(1, 2), neighbours.index)


def _dense(weights: Tensor, index: Tensor, n_cell: int) -> DenseSums:
    n_atoms, width, _, n_radial = weights.shape
    pair = torch.arange(n_atoms, device=index.device)[:, None] * n_cell + index % n_cell
    pairs = weights.new_zeros(n_atoms * n_cell, 4 * n_radial)
    pairs = pairs.index_add(0, pair.reshape(-1), weights.reshape(n_atoms * width, -1))
    pairs = pairs.reshape(n_atoms // n_cell, n_cell, n_cell, 4, n_radial).permute(0, 1, 3, 4, 2)
    return DenseSums(
        pairs[:, :, 0].reshape(-1, n_cell * n_radial, n_cell),
        pairs[:, :, 1:].reshape(-1, n_cell * 3 * n_radial, n_cell),
    )

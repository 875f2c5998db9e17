"""Sums over neighbours as matrix products.

Every message is a radial function times a feature of the neighbour, Σ_k w_b(r_ik) φ_c(k). Being linear in the
radial functions it needs no tensor per pair and product of channels: a (radial functions, neighbours) matrix
times a (neighbours, channels) matrix per atom does it. `PaddedSums` gathers the K neighbours of each atom,
once for all channels. `ChunkedSums` does so for a few hundred atoms at a time and forgets their radial
functions afterwards: memory does not grow with the neighbours of all atoms, and a chunk stays in the
processor's cache. `DenseSums` first adds up the images of each pair inside one cell and then multiplies n × n
matrices: the gradient needs no scatter, faster in training where a cell has about as many atoms as an atom
has neighbours. All give the same sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nearedge_services.networks.graph import Batch, Neighbours

DENSE_RATIO = 1.5
"""Matrices per cell are the faster layout for gradients up to so many atoms per padded neighbour."""

CHUNK_ATOMS = 512
"""Centres evaluated at once when no gradient is wanted; measured on a CPU, anything from 256 to 1024 is as
good."""

GRADIENT_CHUNK_ATOMS = 2048
"""The same when gradients are: fewer pieces, for each of them gathers from, and adds to, all atoms."""

WHOLE_GRADIENT_ATOMS = 4096
"""Up to so many atoms a gradient keeps every intermediate result; above, chunks are evaluated a second time."""


@dataclass(frozen=True)
class Sent:
    """What each atom sends, side by side: (N, 6V + S).

    Amounts of the direction, three times, (N, 3, V); vectors (N, 3, V); scalars (N, S).
    """

    rows: Tensor
    n_vector: int

    @classmethod
    def of(cls, scalars: Tensor, directions: Tensor, vectors: Tensor) -> "Sent":
        """From (N, S), (N, V) and (N, 3, V)."""
        rows = torch.cat([directions.repeat(1, 3), vectors.flatten(1), scalars], dim=1)
        return cls(rows, directions.shape[1])


@dataclass(frozen=True)
class Collected:
    """Sums over the neighbours of n atoms.

    scalars: Σ w_b s_c (n, R, S); directions: Σ w_b r̂ d_c (n, 3, R, V); vectors: Σ w_b v_c (n, 3, R, V).
    """

    scalars: Tensor
    directions: Tensor
    vectors: Tensor


class Part(Protocol):
    """Neighbour sums of some centres, with the weights w_b(r) and w_b(r) r̂."""

    def collect(self, sent: Sent) -> Collected:
        """The sums of what the neighbours, among all atoms, send."""
        ...


class Sums(Protocol):
    """Neighbour sums of all atoms, one part after another."""

    @property
    def slices(self) -> Sequence[slice]:
        """The centres of each part."""
        ...

    def part(self, centres: slice) -> Part:
        """The sums of one of the slices."""
        ...


class Whole:
    """Sums that are one part."""

    @property
    def slices(self) -> Sequence[slice]:
        """All atoms."""
        return [slice(None)]


@dataclass(frozen=True)
class PaddedSums(Whole):
    """Gathers what the padded neighbours send; radial: (n, K, R); units: (n, K, 3); index: (n, K)."""

    radial: Tensor
    units: Tensor
    index: Tensor

    def part(self, centres: slice) -> "PaddedSums":
        """Itself."""
        return self

    def collect(self, sent: Sent) -> Collected:
        """See `Part.collect`."""
        n_atoms, width, n_radial = self.radial.shape
        triple = 3 * sent.n_vector
        features = sent.rows.index_select(0, self.index.reshape(-1)).reshape(n_atoms, width, -1)
        along = features[..., :triple]
        # units repeated for the channels by a product: a broadcast over so few elements is slow
        units = self.units @ torch.eye(3).to(self.units).repeat_interleave(sent.n_vector, dim=1)
        if torch.is_grad_enabled():
            features = torch.cat([along * units, features[..., triple:]], dim=-1)
        else:
            along.mul_(units)
        sums = torch.bmm(self.radial.transpose(1, 2), features)
        vectors = sums[..., : 2 * triple].reshape(n_atoms, n_radial, 2, 3, sent.n_vector)
        directions, vectors = vectors.permute(2, 0, 3, 1, 4)
        return Collected(sums[..., 2 * triple :], directions, vectors)


@dataclass(frozen=True)
class DenseSums(Whole):
    """Multiplies per cell.

    Scalar_weights: (B, nR, n), vector_weights: (B, 3nR, n) of B cells with n atoms each.
    """

    scalar_weights: Tensor
    vector_weights: Tensor

    def part(self, centres: slice) -> "DenseSums":
        """Itself."""
        return self

    def collect(self, sent: Sent) -> Collected:
        """See `Part.collect`."""
        n_atoms, n_vector = len(sent.rows), sent.n_vector
        plain = self._product(self.scalar_weights, sent.rows[:, 3 * n_vector :])
        plain = plain.reshape(n_atoms, -1, plain.shape[-1])
        vectors = plain[..., : 3 * n_vector].unflatten(-1, (3, n_vector)).transpose(1, 2)
        directions = self._product(self.vector_weights, sent.rows[:, :n_vector])
        return Collected(plain[..., 3 * n_vector :], directions.reshape(n_atoms, 3, -1, n_vector), vectors)

    @staticmethod
    def _product(weights: Tensor, features: Tensor) -> Tensor:
        return torch.bmm(weights, features.reshape(len(weights), -1, features.shape[-1]))


@dataclass(frozen=True)
class ChunkedSums:
    """Padded sums of `size` centres at a time; `make` computes those of a slice when they are wanted."""

    make: Callable[[slice], PaddedSums]
    n_atoms: int
    size: int

    @property
    def slices(self) -> Sequence[slice]:
        """Runs of `size` atoms."""
        starts = range(0, self.n_atoms, self.size)
        return [slice(start, min(start + self.size, self.n_atoms)) for start in starts]

    def part(self, centres: slice) -> PaddedSums:
        """See `Sums.part`."""
        return self.make(centres)


def neighbour_sums(
    weights: Callable[[slice], tuple[Tensor, Tensor]], neighbours: Neighbours, batch: Batch
) -> Sums:
    """Choose the fastest layout.

    weights: gives, for a slice of n centres, the radial functions (n, K, R), zero where padded, and the
    unit vectors (n, K, 3).
    """

    def padded(centres: slice) -> PaddedSums:
        return PaddedSums(*weights(centres), neighbours.index[centres])

    n_atoms, everything = len(neighbours.index), slice(None)
    if not torch.is_grad_enabled():
        return ChunkedSums(padded, n_atoms, CHUNK_ATOMS) if n_atoms > CHUNK_ATOMS else padded(everything)
    if n_atoms > WHOLE_GRADIENT_ATOMS:
        return ChunkedSums(padded, n_atoms, GRADIENT_CHUNK_ATOMS)
    n_cell = int(batch.counts[0])
    alike = bool((batch.counts == n_cell).all())
    if alike and n_cell <= DENSE_RATIO * neighbours.index.shape[1]:
        return _dense(*weights(everything), neighbours.index, n_cell)
    return padded(everything)


def _dense(radial: Tensor, units: Tensor, index: Tensor, n_cell: int) -> DenseSums:
    n_atoms, width, n_radial = radial.shape
    weights = torch.cat([radial[:, :, None], units[..., None] * radial[:, :, None]], dim=2)
    pair = torch.arange(n_atoms, device=index.device)[:, None] * n_cell + index % n_cell
    pairs = weights.new_zeros(n_atoms * n_cell, 4 * n_radial)
    pairs = pairs.index_add(0, pair.reshape(-1), weights.reshape(n_atoms * width, -1))
    pairs = pairs.reshape(n_atoms // n_cell, n_cell, n_cell, 4, n_radial).permute(0, 1, 3, 4, 2)
    return DenseSums(
        pairs[:, :, 0].reshape(-1, n_cell * n_radial, n_cell),
        pairs[:, :, 1:].reshape(-1, n_cell * 3 * n_radial, n_cell),
    )

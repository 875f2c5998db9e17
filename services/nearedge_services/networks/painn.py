"""An equivariant message-passing network in the manner of PaiNN.

After Schütt, Unke and Gastegger, "Equivariant message passing for the prediction of tensorial properties and
molecular spectra", ICML 2021, with filters linear in the radial functions, so that sums over neighbours are
matrix products (see `messages`), and with FiLM conditions (Perez et al., AAAI 2018).
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from nearedge_services.networks.graph import Batch, Neighbours
from nearedge_services.networks.messages import Collected, Sent, Sums, neighbour_sums


@dataclass(frozen=True)
class PaiNNConfig:
    """Sizes of the network; cutoff in Å."""

    n_species: int
    n_scalar: int = 64
    n_vector: int = 24
    n_radial: int = 16
    n_layers: int = 3
    cutoff: float = 4.5
    n_conditions: int = 0


LEAST_EXPONENT = -30.0
"""Gaussians are cut off here, at 1e-13: smaller ones are denormal numbers, with which processors are slow."""


class RadialBasis(nn.Module):
    """Gaussians in the distance, denser at bond lengths, times a smooth envelope that ends at the cutoff."""

    centres: Tensor
    widths: Tensor

    def __init__(self, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        centres = cutoff * torch.linspace(0.12**0.75, 1.0, n_radial) ** (1 / 0.75)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("widths", torch.gradient(centres)[0] * 0.9, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Distances (N, K) Å to (N, K, R)."""
        u = (distances / self.cutoff).clamp(max=1.0)
        envelope = (1 - u * u) ** 2
        scale = 0.5**0.5 / self.widths
        z = torch.addcmul(-self.centres * scale, distances[..., None], scale)
        return envelope[..., None] * torch.exp((-z * z).clamp(min=LEAST_EXPONENT))


@dataclass(frozen=True)
class Conditions:
    """What the network is told beside the geometry.

    values: (M, n_conditions); row: (N,) int64, which of them belongs to an atom; None: the only one to all.
    """

    values: Tensor
    row: Tensor | None

    @classmethod
    def of(cls, values: Tensor, batch: Batch) -> "Conditions":
        """From one row per structure or one per atom. Raises ValueError for another number of rows."""
        if len(values) == batch.size:
            return cls(values, batch.structure if batch.size > 1 else None)
        if len(values) != len(batch.positions):
            raise ValueError(f"{len(values)} rows of conditions for {batch.size} structures")
        return cls(values, torch.arange(len(values), device=values.device))

    def of_atoms(self, atoms: slice) -> "Conditions":
        """Those of some of the atoms."""
        return self if self.row is None else Conditions(self.values, self.row[atoms])


class FiLM(nn.Module):
    """Scale and shift of features by conditions.

    The identity at the start and where there are no conditions.
    """

    def __init__(self, n_conditions: int, n_features: int) -> None:
        super().__init__()
        self.net: nn.Sequential | None = None
        if n_conditions:
            last = nn.Linear(32, 2 * n_features)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.net = nn.Sequential(nn.Linear(n_conditions, 32), nn.SiLU(), last)

    def forward(self, features: Tensor, conditions: Conditions | None) -> Tensor:
        """Features (N, C) to (N, C)."""
        if self.net is None:
            return features
        if conditions is None:
            raise ValueError("this network was built with conditions: pass them")
        factors = self.net(conditions.values)
        scale, shift = (factors if conditions.row is None else factors[conditions.row]).chunk(2, dim=-1)
        return features * (1 + scale) + shift


class Message(nn.Module):
    """Scalars and vectors collected from the neighbours.

    Each neighbour sends a few channels; all pairs of channel and radial function are then mixed by one
    matrix.
    """

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        c, v, r = config.n_scalar, config.n_vector, config.n_radial
        sent, sent_vectors = max(c // 4, 1), max(v // 3, 1)
        self.sizes = [sent, sent_vectors]
        self.norm = nn.LayerNorm(c)
        self.first = nn.Linear(c, c)
        self.film = FiLM(config.n_conditions, c)
        self.second = nn.Linear(c, sent + sent_vectors)
        self.send_vectors = nn.Linear(v, sent_vectors, bias=False)
        self.mix_scalars = nn.Linear(r * sent, c, bias=False)
        self.mix_directions = nn.Linear(r * sent_vectors, v, bias=False)
        self.mix_vectors = nn.Linear(r * sent_vectors, v, bias=False)

    def send(self, scalars: Tensor, vectors: Tensor, conditions: Conditions | None) -> Sent:
        """What atoms with scalars (N, C) and vectors (N, 3, V) tell their neighbours."""
        hidden = functional.silu(self.film(self.first(self.norm(scalars)), conditions))
        source, direction = self.second(hidden).split(self.sizes, dim=-1)
        return Sent.of(source, direction, self.send_vectors(limited(vectors)))

    def forward(self, collected: Collected) -> tuple[Tensor, Tensor]:
        """Increments (n, C) and (n, 3, V) from what the neighbours of n atoms sent."""
        directions = self.mix_directions(collected.directions.flatten(2))
        vectors = self.mix_vectors(collected.vectors.flatten(2))
        return self.mix_scalars(collected.scalars.flatten(1)), directions + vectors


class Update(nn.Module):
    """Scalars and vectors of one atom exchange what they know."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        c, v = config.n_scalar, config.n_vector
        self.n_scalar = c
        self.norm = nn.LayerNorm(c)
        self.mix = nn.Linear(v, 2 * v, bias=False)
        self.first = nn.Linear(c + 2 * v, c)
        self.film = FiLM(config.n_conditions, c)
        self.second = nn.Linear(c, c + v)

    def forward(
        self, scalars: Tensor, vectors: Tensor, conditions: Conditions | None
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, C) and vectors (N, 3, V) to their increments."""
        left, right = self.mix(limited(vectors)).chunk(2, dim=-1)
        invariants = torch.cat([self.norm(scalars), (left * right).sum(1), (right * right).sum(1)], dim=-1)
        hidden = functional.silu(self.film(self.first(invariants), conditions))
        increment, gate = self.second(hidden).split([self.n_scalar, left.shape[-1]], dim=-1)
        return increment, left * gate[:, None]


class PaiNN(nn.Module):
    """Per-atom scalars (invariant) and vectors (equivariant) of periodic structures."""

    def __init__(self, config: PaiNNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.n_species, config.n_scalar)
        self.radial = RadialBasis(config.n_radial, config.cutoff)
        self.messages = nn.ModuleList(Message(config) for _ in range(config.n_layers))
        self.updates = nn.ModuleList(Update(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.n_scalar)

    def forward(
        self, batch: Batch, neighbours: Neighbours, conditions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, C) and vectors (N, 3, V); conditions: (B, n_conditions) or (N, n_conditions).

        Differentiable in positions. Large batches are evaluated in chunks of centres, to the same result.
        """
        told = None if conditions is None else Conditions.of(conditions, batch)
        sums = self.neighbour_sums(batch, neighbours)
        scalars = self.embedding(batch.species)
        vectors = scalars.new_zeros(len(scalars), 3, self.config.n_vector)
        for message, update in zip(self.messages, self.updates, strict=True):
            layer = cast(Message, message), cast(Update, update)
            scalars, vectors = _exchange(*layer, scalars, vectors, sums, told)
        return self.norm(scalars), limited(vectors)

    def neighbour_sums(self, batch: Batch, neighbours: Neighbours) -> Sums:
        """Radial functions and directions of this geometry, ready for every layer."""

        def weights(centres: slice) -> tuple[Tensor, Tensor]:
            displacements = neighbours.displacements(batch.positions, centres)
            # softened at 0.1 Å: overlapping atoms must not have an undefined direction or gradient
            distances = (displacements.square().sum(-1) + 0.01).sqrt()
            # a padded neighbour lies at the cutoff, where the envelope is zero
            return self.radial(distances), displacements / distances[..., None]

        return neighbour_sums(weights, neighbours, batch)


def _exchange(
    message: Message,
    update: Update,
    scalars: Tensor,
    vectors: Tensor,
    sums: Sums,
    conditions: Conditions | None,
) -> tuple[Tensor, Tensor]:
    """Scalars (N, C) and vectors (N, 3, V) after one exchange with the neighbours."""
    sent = message.send(scalars, vectors, conditions)

    def advance(centres: slice) -> tuple[Tensor, Tensor]:
        more_scalars, more_vectors = message(sums.part(centres).collect(sent))
        new_scalars, new_vectors = scalars[centres] + more_scalars, vectors[centres] + more_vectors
        told = None if conditions is None else conditions.of_atoms(centres)
        more_scalars, more_vectors = update(new_scalars, new_vectors, told)
        return new_scalars + more_scalars, new_vectors + more_vectors

    slices = sums.slices
    if len(slices) == 1:
        return advance(slices[0])
    if torch.is_grad_enabled():  # evaluated again when the gradient is wanted: memory of one chunk
        pieces = [checkpoint(advance, part, use_reentrant=False, preserve_rng_state=False) for part in slices]
    else:
        pieces = [advance(part) for part in slices]
    return torch.cat([piece[0] for piece in pieces]), torch.cat([piece[1] for piece in pieces])


def limited(vectors: Tensor) -> Tensor:
    """Vectors (N, 3, V) shortened where they are long on average, smoothly.

    Keeps rare geometries in bounds.
    """
    return vectors * torch.rsqrt(1 + vectors.square().sum(1).mean(-1))[:, None, None]

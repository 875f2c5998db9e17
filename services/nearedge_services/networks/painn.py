"""An equivariant message-passing network in the manner of PaiNN.

After Schütt, Unke and Gastegger, "Equivariant message passing for the prediction of tensorial properties and
molecular spectra", ICML 2021, with filters linear in the radial functions, so that sums over neighbours are
matrix products (see `messages`), and with FiLM conditions (Perez et al., AAAI 2018).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nearedge_services.networks.graph import Batch, Neighbours
from nearedge_services.networks.messages import Sums, neighbour_sums


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
        gauss = torch.exp(-0.5 * ((distances[..., None] - self.centres) / self.widths) ** 2)
        return envelope[..., None] * gauss


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

    def forward(self, features: Tensor, conditions: Tensor | None) -> Tensor:
        """Features (N, C) and conditions (N, n_conditions) to (N, C)."""
        if self.net is None:
            return features
        if conditions is None:
            raise ValueError("this network was built with conditions: pass them")
        scale, shift = self.net(conditions).chunk(2, dim=-1)
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

    def forward(
        self, scalars: Tensor, vectors: Tensor, sums: Sums, conditions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Scalars (N, C) and vectors (N, 3, V) to their increments."""
        hidden = functional.silu(self.film(self.first(self.norm(scalars)), conditions))
        source, direction = self.second(hidden).split(self.sizes, dim=-1)
        moved = self.send_vectors(limited(vectors)).transpose(0, 1)
        from_scalars = self.mix_scalars(sums.scalar(source).flatten(1))
        from_directions = self.mix_directions(sums.vector(direction).flatten(2))
        from_vectors = torch.stack([self.mix_vectors(sums.scalar(axis).flatten(1)) for axis in moved], dim=1)
        return from_scalars, from_directions + from_vectors


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

    def forward(self, scalars: Tensor, vectors: Tensor, conditions: Tensor | None) -> tuple[Tensor, Tensor]:
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
        """Scalars (N, C) and vectors (N, 3, V); conditions: (N, n_conditions).

        Differentiable in positions.
        """
        sums = self.neighbour_sums(batch, neighbours)
        scalars = self.embedding(batch.species)
        vectors = scalars.new_zeros(len(scalars), 3, self.config.n_vector)
        for message, update in zip(self.messages, self.updates, strict=True):
            more_scalars, more_vectors = message(scalars, vectors, sums, conditions)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
            more_scalars, more_vectors = update(scalars, vectors, conditions)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
        return self.norm(scalars), limited(vectors)

    def neighbour_sums(self, batch: Batch, neighbours: Neighbours) -> Sums:
        """Radial functions and directions of this geometry, ready for every layer."""
        displacements = neighbours.displacements(batch.positions)
        # softened at 0.1 Å: overlapping atoms must not have an undefined direction or gradient
        distances = (displacements.square().sum(-1) + 0.01).sqrt()
        radial = self.radial(distances) * neighbours.mask[..., None]
        return neighbour_sums(radial, displacements / distances[..., None], neighbours, batch)


def limited(vectors: Tensor) -> Tensor:
    """Vectors (N, 3, V) shortened where they are long on average, smoothly.

    Keeps rare geometries in bounds.
    """
    return vectors * torch.rsqrt(1 + vectors.square().sum(1).mean(-1))[:, None, None]

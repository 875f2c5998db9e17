"""The ensemble of networks: geometry in, per-atom spectra out."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nearedge_services.networks.graph import Batch, Neighbours, find_neighbours
from nearedge_services.networks.messages import Sums
from nearedge_services.networks.painn import PaiNN, PaiNNConfig
from nearedge_services.surrogate.basis import Basis
from nearedge_services.surrogate.settings import SurrogateSettings

#: Coordination numbers above this share one row in the same-coordination baseline.
MAX_COORDINATION = 6


@dataclass(frozen=True)
class SharedNeighbours(Neighbours):
    """Neighbours with their radial functions and directions, which hold no weights: the same for all
    members.
    """

    sums: Sums


class SharedPaiNN(PaiNN):
    """PaiNN that takes the radial functions from SharedNeighbours instead of computing them again."""

    def neighbour_sums(self, batch: Batch, neighbours: Neighbours) -> Sums:
        """Radial functions and directions of this geometry."""
        if isinstance(neighbours, SharedNeighbours):
            return neighbours.sums
        return super().neighbour_sums(batch, neighbours)


class Member(nn.Module):
    """One network: PaiNN, then per atom the amounts of the principal components."""

    def __init__(self, settings: SurrogateSettings, n_elements: int, n_components: int) -> None:
        super().__init__()
        config = PaiNNConfig(
            n_species=n_elements,
            n_scalar=settings.channels,
            n_vector=settings.vectors,
            n_radial=settings.radial,
            n_layers=settings.layers,
            cutoff=settings.cutoff_a,
        )
        self.backbone = SharedPaiNN(config)
        last = nn.Linear(settings.channels, n_components)
        with torch.no_grad():  # start near the mean spectrum
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.head = nn.Sequential(nn.Linear(settings.channels, settings.channels), nn.SiLU(), last)

    def forward(self, batch: Batch, neighbours: Neighbours) -> Tensor:
        """Amounts (N, K) of the components."""
        scalars, _ = self.backbone(batch, neighbours, None)
        return self.head(scalars)


class SpectrumNetwork(nn.Module):
    """M members over one basis. Buffers hold the basis, so that the weights file is complete."""

    means: Tensor
    components: Tensor
    coordination_means: Tensor

    def __init__(self, settings: SurrogateSettings, n_elements: int, grid_size: int) -> None:
        super().__init__()
        n_components = min(settings.components, grid_size)
        self.cutoff = settings.cutoff_a
        self.members = nn.ModuleList(
            Member(settings, n_elements, n_components) for _ in range(settings.members)
        )
        self.register_buffer("means", torch.zeros(n_elements, grid_size))
        self.register_buffer("components", torch.zeros(n_components, grid_size))
        self.register_buffer("coordination_means", torch.zeros(n_elements, MAX_COORDINATION + 1, grid_size))

    @property
    def basis(self) -> Basis:
        """Mean spectra and components as held in the buffers."""
        return Basis(self.means, self.components)

    def neighbours(self, batch: Batch) -> SharedNeighbours:
        """Neighbours within the range of one layer and what depends on geometry alone, for all members."""
        found = find_neighbours(batch, self.cutoff)
        sums = cast(Member, self.members[0]).backbone.neighbour_sums(batch, found)
        return SharedNeighbours(found.index, found.offset, found.mask, sums)

    def spectra(self, batch: Batch, members: int | None = None) -> Tensor:
        """Per-atom spectra (M, N, G), dimensionless, non-negative, of the first ``members`` members (all:
        None).
        """
        neighbours = self.neighbours(batch)
        chosen = list(self.members)[:members]
        return torch.stack(
            [self.basis.spectra(member(batch, neighbours), batch.species) for member in chosen]
        )

"""The ensemble of networks: geometry in, per-atom spectra out."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nearedge_services.networks.graph import Batch, Neighbours, find_neighbours
from nearedge_services.networks.messages import Sums
from nearedge_services.networks.painn import PaiNN, PaiNNConfig
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.surrogate.basis import Basis, non_negative
from nearedge_services.surrogate.noisy import NoiseAwareNetwork
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.tight_binding import Pairs, TightBinding

#: Coordination numbers above this share one row in the same-coordination baseline.
MAX_COORDINATION = 6


@dataclass(frozen=True)
class SharedNeighbours(Neighbours):
    """Neighbours with their radial functions and directions, which hold no weights: the same for all
    members.
    """

    sums: Sums


@dataclass(frozen=True)
class Geometry:
    """What depends on the positions alone; pairs: None without tight binding."""

    neighbours: SharedNeighbours
    pairs: Pairs | None


class SharedPaiNN(PaiNN):
    """PaiNN that takes the radial functions from SharedNeighbours instead of computing them again."""

    def neighbour_sums(self, batch: Batch, neighbours: Neighbours) -> Sums:
        """Radial functions and directions of this geometry."""
        if isinstance(neighbours, SharedNeighbours):
            return neighbours.sums
        return super().neighbour_sums(batch, neighbours)


class Member(nn.Module):
    """One network: PaiNN describes the surroundings of each atom.

    From them follow the amounts of the principal components and, with tight binding, the matrix elements of
    a Hamiltonian; the spectrum is the sum of both.
    """

    energies: Tensor

    def __init__(self, settings: SurrogateSettings, elements: tuple[str, ...], grid: EnergyGrid) -> None:
        super().__init__()
        config = PaiNNConfig(
            n_species=len(elements),
            n_scalar=settings.channels,
            n_vector=settings.vectors,
            n_radial=settings.radial,
            n_layers=settings.layers,
            cutoff=settings.cutoff_a,
        )
        self.backbone = SharedPaiNN(config)
        last = nn.Linear(settings.channels, min(settings.components, grid.size))
        with torch.no_grad():  # start near the mean spectrum, or near the one of the Hamiltonian
            last.weight.mul_(0.0 if settings.tight_binding else 0.1)
            last.bias.zero_()
        self.head = nn.Sequential(nn.Linear(settings.channels, settings.channels), nn.SiLU(), last)
        self.hamiltonian = TightBinding(elements, settings.channels) if settings.tight_binding else None
        energies = torch.as_tensor(grid.energies, dtype=torch.float32)
        self.register_buffer("energies", energies, persistent=False)

    def forward(self, batch: Batch, geometry: Geometry, basis: Basis) -> Tensor:
        """Non-negative spectra (N, G), dimensionless."""
        scalars, _ = self.backbone(batch, geometry.neighbours, None)
        amounts = self.head(scalars)
        if self.hamiltonian is None or geometry.pairs is None:
            return basis.spectra(amounts, batch.species)
        states = self.hamiltonian(batch, geometry.pairs, scalars, self.energies)
        return non_negative(torch.addmm(states, amounts, basis.components))


class SpectrumNetwork(nn.Module):
    """M members over one basis. Buffers hold the basis, so that the weights file is complete."""

    means: Tensor
    components: Tensor
    coordination_means: Tensor

    def __init__(self, settings: SurrogateSettings, elements: tuple[str, ...], grid: EnergyGrid) -> None:
        super().__init__()
        n_components = min(settings.components, grid.size)
        self.cutoff = settings.cutoff_a
        self.members = nn.ModuleList(Member(settings, elements, grid) for _ in range(settings.members))
        self.noisy = NoiseAwareNetwork(settings, len(elements)) if settings.noise_aware_steps else None
        self.register_buffer("means", torch.zeros(len(elements), grid.size))
        self.register_buffer("components", torch.zeros(n_components, grid.size))
        self.register_buffer(
            "coordination_means", torch.zeros(len(elements), MAX_COORDINATION + 1, grid.size)
        )

    @property
    def basis(self) -> Basis:
        """Mean spectra and components as held in the buffers."""
        return Basis(self.means, self.components)

    def geometry(self, batch: Batch) -> Geometry:
        """Neighbours and what depends on positions alone, for all members."""
        found = find_neighbours(batch, self.cutoff)
        member = cast(Member, self.members[0])
        sums = member.backbone.neighbour_sums(batch, found)
        pairs = member.hamiltonian.pairs(batch) if member.hamiltonian else None
        return Geometry(SharedNeighbours(found.index, found.offset, found.mask, sums), pairs)

    def spectra(self, batch: Batch, members: int | None = None) -> Tensor:
        """Per-atom spectra (M, N, G), dimensionless, non-negative, of the first ``members`` members (all:
        None).
        """
        geometry = self.geometry(batch)
        chosen = list(self.members)[:members]
        return torch.stack([member(batch, geometry, self.basis) for member in chosen])

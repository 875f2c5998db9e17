"""A network that sees noisy positions and predicts the spectra of the clean ones.

The gradient of its mismatch is the guidance of classifier guidance (Dhariwal and Nichol, NeurIPS 2021): taken
on the noisy positions themselves, it needs no denoised estimate, which at large noise is no structure.
"""

import torch
from torch import Tensor, nn

from nearedge_services.diffusion.prior import N_CONDITIONS, noise_conditions
from nearedge_services.networks.graph import Batch, find_neighbours, mean_by_structure
from nearedge_services.networks.painn import PaiNN, PaiNNConfig
from nearedge_services.surrogate.settings import SurrogateSettings

#: Noise levels it is trained on, Å; others are taken as the nearest of these.
SIGMA_RANGE_A = (0.03, 0.8)


class NoiseAwareNetwork(nn.Module):
    """PaiNN conditioned on log σ and density by FiLM, then the amounts of the principal components.

    Time and memory grow with the number of atoms only, unlike those of a tight-binding Hamiltonian.
    """

    def __init__(self, settings: SurrogateSettings, n_elements: int) -> None:
        super().__init__()
        config = PaiNNConfig(
            n_species=n_elements,
            n_scalar=settings.noise_aware_channels,
            n_vector=settings.noise_aware_vectors,
            n_radial=settings.radial,
            n_layers=settings.noise_aware_layers,
            cutoff=settings.noise_aware_cutoff_a,
            n_conditions=N_CONDITIONS,
        )
        self.backbone = PaiNN(config)
        last = nn.Linear(config.n_scalar, settings.components)
        with torch.no_grad():  # start near the mean spectrum
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.head = nn.Sequential(nn.Linear(2 * config.n_scalar, config.n_scalar), nn.SiLU(), last)

    def forward(self, batch: Batch, sigma: Tensor) -> Tensor:
        """Amounts (N, K) of the components expected without the noise; sigma: (B,) Å."""
        neighbours = find_neighbours(batch, self.backbone.config.cutoff)
        conditions = noise_conditions(batch, sigma.clamp(*SIGMA_RANGE_A))[batch.structure]
        scalars, _ = self.backbone(batch, neighbours, conditions)
        # much noise leaves little at one atom: what all atoms show together says more
        common = mean_by_structure(scalars, batch)[batch.structure]
        return self.head(torch.cat([scalars, common], dim=-1))


def random_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Noise levels (B,) Å, log-uniform over SIGMA_RANGE_A, one in each of ``count`` equal parts."""
    low, high = torch.tensor(SIGMA_RANGE_A).log()
    share = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (low + (high - low) * share).exp()

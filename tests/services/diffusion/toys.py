"""Denoisers and surrogates whose answers are known exactly."""

import torch

from nearedge_services.networks.graph import Batch


class GaussianSites:
    """Exact denoiser of independent Gaussians of width `width` Å about given sites, in each structure alike.

    E[x₀ | x] = site + width² / (width² + σ²) (x − site).
    """

    def __init__(self, site, width, poison=None):
        self.site = torch.tensor(site, dtype=torch.float64)
        self.width = width
        self.poison = poison

    def batch(self, structures):
        return Batch.from_atoms(structures, ("C",), dtype=torch.float64)

    def denoise(self, batch, sigma):
        shrink = self.width**2 / (self.width**2 + sigma[batch.structure, None] ** 2)
        denoised = self.site + shrink * (batch.positions - self.site)
        if self.poison is not None:
            bad = batch.counts[batch.structure] == self.poison
            denoised = torch.where(bad[:, None], float("nan"), denoised)
        return denoised


class FirstAxis:
    """A surrogate whose mismatch is ½ (mean of x − target)² N per structure."""

    def mismatch(self, batch, target):
        means = torch.zeros(batch.size, dtype=batch.positions.dtype)
        means = means.index_add(0, batch.structure, batch.positions[:, 0]) / batch.counts
        return 0.5 * batch.counts * (means - target) ** 2


class Wavy:
    """A smooth, non-linear mismatch of all coordinates."""

    def mismatch(self, batch, target):
        values = (torch.sin(batch.positions) * batch.positions.roll(1, -1)).sum(-1)
        means = (
            torch.zeros(batch.size, dtype=values.dtype).index_add(0, batch.structure, values) / batch.counts
        )
        return 0.5 * batch.counts * (means - target) ** 2

"""Cell means and spectral distances as differentiable tensors: the twin of ``spectra.target``."""

import torch
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.target import Target


class TorchTarget:
    """A target on the oracle's grid as tensors.

    Spectra are cut to the window, normalised by area there (trapezoid) and compared.
    """

    def __init__(self, target: Target, like: Tensor) -> None:
        self.points = torch.as_tensor(target.mask, device=like.device)
        self.weights = torch.as_tensor(target.weights, dtype=like.dtype, device=like.device)[self.points]
        self.width_ev = float(self.weights.sum())
        intensity = torch.as_tensor(target.intensity, dtype=like.dtype, device=like.device)[self.points]
        self.intensity = self._normalised(intensity)

    def _normalised(self, spectra: Tensor) -> Tensor:
        return spectra / (spectra @ self.weights)[..., None]

    def difference(self, cell_means: Tensor) -> Tensor:
        """Spectrum minus target in the window (…, W), 1/eV, for spectra (…, G)."""
        return self._normalised(cell_means[..., self.points]) - self.intensity

    def square(self, cell_means: Tensor) -> Tensor:
        """Mean squared difference over the window (…), (1/eV)²: the square of the spectral distance."""
        return self.difference(cell_means).square().mean(-1)


def area_normalised(spectra: Tensor, grid: EnergyGrid) -> Tensor:
    """Spectra (…, G) divided by their trapezoid area, 1/eV."""
    weights = torch.as_tensor(grid.weights, dtype=spectra.dtype, device=spectra.device)
    return spectra / (spectra @ weights)[..., None]


def check_grid(target: Target, grid: EnergyGrid) -> None:
    """Raise UserError unless the target is on the surrogate's grid."""
    if target.grid != grid:
        raise UserError(
            "the target is on another energy grid than the surrogate",
            got=target.grid,
            fix=f"put it on {grid}",
        )

"""Steering a sample towards a target by a gradient at the denoised positions."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.target import Target


class Guidance(Protocol):
    """Something whose gradient pulls denoised structures where they should be.

    scale: strength, one number or one per structure of the call to `sample`; clip: longest step of an atom in
    units of σ; sigma_range: noise levels in Å between which it acts.
    """

    scale: float | Sequence[float]
    clip: float
    sigma_range: tuple[float, float]

    def gradient(self, denoised: Batch, sigma: float) -> Tensor:
        """Gradient (N, 3) 1/Å of what is to be small, with respect to the denoised positions; sigma in Å."""
        ...


class Mismatch(Protocol):
    """What spectrum guidance needs of a surrogate."""

    def mismatch(self, batch: Batch, target: Target) -> Tensor:
        """Mismatch with the target per structure, (B,), differentiable in the positions."""
        ...


class SpectrumGuidance:
    """Straight-through guidance by a surrogate: D ← D − s σ² ∇ ½ N ‖ȳ − y*‖² on the cell-mean spectrum.

    The gradient is taken at the denoised positions and not carried back through the denoiser, which costs
    more and gains nothing.
    """

    def __init__(
        self,
        surrogate: Mismatch,
        target: Target,
        scale: float | Sequence[float],
        clip: float = 0.5,
        sigma_range: tuple[float, float] = (0.04, 0.7),
    ) -> None:
        self.surrogate = surrogate
        self.target = target
        self.scale = scale
        self.clip = clip
        self.sigma_range = sigma_range

    def gradient(self, denoised: Batch, sigma: float) -> Tensor:
        """See `Guidance.gradient`."""
        with torch.enable_grad():
            positions = denoised.positions.detach().requires_grad_(True)
            total = self.surrogate.mismatch(denoised.with_positions(positions), self.target).sum()
            return torch.autograd.grad(total, positions)[0]


def scales_per_structure(guidance: Guidance | None, count: int) -> list[float]:
    """The scale of each of `count` structures; raises ValueError when the numbers differ."""
    if guidance is None:
        return [0.0] * count
    if isinstance(guidance.scale, int | float):
        return [float(guidance.scale)] * count
    if len(guidance.scale) != count:
        raise ValueError(f"{len(guidance.scale)} guidance scales for {count} structures")
    return [float(scale) for scale in guidance.scale]


def guided(denoised: Batch, sigma: float, guidance: Guidance, scales: Tensor) -> Tensor:
    """Denoised positions (N, 3) Å moved against the gradient; scales: (B,).

    No atom moves more than clip · σ.
    """
    low, high = guidance.sigma_range
    if not low < sigma < high or not bool((scales != 0).any()):
        return denoised.positions
    gradient = guidance.gradient(denoised, sigma)
    step = scales[denoised.structure, None] * sigma**2 * gradient
    length = step.norm(dim=-1, keepdim=True)
    return denoised.positions - step * (guidance.clip * sigma / length.clamp(min=1e-12)).clamp(max=1.0)

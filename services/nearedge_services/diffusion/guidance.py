"""Steering a sample towards a target: by gradients, by what the prior learnt of spectra, or by both.

Example:
    >>> told = ClassifierFreeGuidance(target, 1.0)                                      # doctest: +SKIP
    >>> pulled = SpectrumGuidance(surrogate, target, 10.0)                              # doctest: +SKIP
    >>> both = CombinedGuidance([told, pulled])                                         # doctest: +SKIP
    >>> structures = sample(prior, cells, SamplerSettings(), seeds=[0], guidance=both)  # doctest: +SKIP
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.diffusion.moment import Guidance, Moment, Push
from nearedge_services.diffusion.objectives import Mismatch, Objective, SpectrumObjective, elements_of
from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.target import Target

__all__ = [
    "ClassifierFreeGuidance",
    "CombinedGuidance",
    "Guidance",
    "Guide",
    "Mismatch",
    "NoiseAwareGuidance",
    "ObjectiveGuidance",
    "SpectrumGuidance",
]

Scale = float | Sequence[float]
"""Strength: one number, or one per structure of the call to `sample`."""

RANGE = (0.04, 0.7)
"""Noise levels in Å between which gradients act: above there is no structure yet, below it is finished."""


class Guide(ABC):
    """A guidance of one strength.

    scale: see `Scale`; clip: longest shift of an atom in units of the noise level σ; sigma_range: noise
    levels in Å between which it acts.
    """

    def __init__(self, scale: Scale, clip: float, sigma_range: tuple[float, float]) -> None:
        self.scale = scale
        self.clip = clip
        self.sigma_range = sigma_range

    def check(self, count: int) -> None:
        """Raise ValueError unless there is one scale, or one for each of `count` structures."""
        if not isinstance(self.scale, int | float) and len(self.scale) != count:
            raise ValueError(f"{len(self.scale)} guidance scales for {count} structures")

    def scales(self, moment: Moment) -> Tensor:
        """The strength for each structure of the moment, (B,)."""
        if isinstance(self.scale, int | float):
            return moment.unguided.new_full((moment.noisy.size,), float(self.scale))
        return moment.unguided.new_tensor([float(self.scale[k]) for k in moment.members.tolist()])

    def push(self, moment: Moment) -> Push:
        """See `Guidance.push`; no atom moves more than clip · σ."""
        low, high = self.sigma_range
        scales = self.scales(moment)
        if not low < moment.sigma < high or not bool((scales != 0).any()):
            return Push.nothing(moment)
        push = self.full_push(moment, scales)
        length = push.shift.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return replace(push, shift=push.shift * (self.clip * moment.sigma / length).clamp(max=1.0))

    @abstractmethod
    def full_push(self, moment: Moment, scales: Tensor) -> Push:
        """The push before any clip; scales: (B,)."""


class GradientGuide(Guide):
    """Moves against a gradient: D ← D − s σ² ∇U, and the cell's length by −s σ² (∂U/∂ε) / (N ℓ²).

    ε is the logarithm of the length and ℓ the mean spacing (V/N)^⅓ in Å, which makes the strain comparable
    with the shift of an atom relative to its neighbours, whatever the size of the cell.
    """

    def full_push(self, moment: Moment, scales: Tensor) -> Push:
        """See `Guide.full_push`."""
        shift, strain = self.gradient(moment)
        strengths = scales * moment.sigma**2
        shift = -strengths[moment.noisy.structure, None] * shift
        if strain is None:
            return Push(shift)
        spacing = moment.noisy.number_densities ** (-1 / 3)
        return Push(shift, -strengths * strain / (moment.noisy.counts * spacing**2))

    @abstractmethod
    def gradient(self, moment: Moment) -> tuple[Tensor, Tensor | None]:
        """∂U/∂x (N, 3) in 1/Å and, where a strain is wanted, ∂U/∂ε (B,)."""


class ObjectiveGuidance(GradientGuide):
    """Straight-through guidance by an objective U at the denoised positions.

    The gradient is not carried back through the denoiser, which costs more and gains nothing.
    """

    def __init__(
        self,
        objective: Objective,
        scale: Scale,
        clip: float = 0.5,
        sigma_range: tuple[float, float] = RANGE,
    ) -> None:
        super().__init__(scale, clip, sigma_range)
        self.objective = objective

    def gradient(self, moment: Moment) -> tuple[Tensor, Tensor | None]:
        """See `GradientGuide.gradient`."""
        batch = recast(moment.denoised, elements_of(moment.prior), elements_of(self.objective))
        return gradients(self.objective.value, batch, moment.variable_cell)


class SpectrumGuidance(ObjectiveGuidance):
    """Guidance by a surrogate at the denoised positions: U = ½ N ‖ȳ − y*‖² on the cell-mean spectrum."""

    def __init__(
        self,
        surrogate: Mismatch,
        target: Target,
        scale: Scale,
        clip: float = 0.5,
        sigma_range: tuple[float, float] = RANGE,
    ) -> None:
        super().__init__(SpectrumObjective(surrogate, target), scale, clip, sigma_range)


class NoisyMismatch(Protocol):
    """What noise-aware guidance needs of a surrogate."""

    def noisy_mismatch(self, batch: Batch, sigma: Tensor, target: Target) -> Tensor:
        """Expected mismatch (B,) of what noisy positions come from, differentiable; sigma: (B,) Å."""
        ...


class NoiseAwareGuidance(GradientGuide):
    """Guidance by a surrogate that was trained on noisy structures: its gradient at the noisy positions."""

    def __init__(
        self,
        surrogate: NoisyMismatch,
        target: Target,
        scale: Scale,
        clip: float = 0.5,
        sigma_range: tuple[float, float] = RANGE,
    ) -> None:
        super().__init__(scale, clip, sigma_range)
        self.surrogate = surrogate
        self.target = target

    def gradient(self, moment: Moment) -> tuple[Tensor, Tensor | None]:
        """See `GradientGuide.gradient`."""
        batch = recast(moment.noisy, elements_of(moment.prior), elements_of(self.surrogate))
        sigmas = moment.sigmas()
        return gradients(
            lambda noisy: self.surrogate.noisy_mismatch(noisy, sigmas, self.target),
            batch,
            moment.variable_cell,
        )


class ConditionalDenoiser(Protocol):
    """What classifier-free guidance needs of a prior."""

    def spectrum_of(self, target: Target) -> Tensor:
        """The target as the spectrum (G,) that `denoise` takes."""
        ...

    def denoise(self, batch: Batch, sigma: Tensor, spectrum: Tensor | None = None) -> Tensor:
        """Expected clean positions (N, 3) Å of structures with that spectrum (B, G); sigma: (B,) Å."""
        ...


class ClassifierFreeGuidance(Guide):
    """D = D_u + w (D_c − D_u): the prior told the spectrum (c) against the prior told nothing (u).

    w = 0 is the unconditional prior, 1 the conditional one, more exaggerates the difference (Ho and
    Salimans, "Classifier-free diffusion guidance", 2022). One more evaluation of the prior per step. Strong
    weights break structures: look at contacts and energies, not at the spectrum alone.
    """

    def __init__(
        self,
        target: Target,
        weight: Scale,
        clip: float = 1.0,
        sigma_range: tuple[float, float] = (0.04, 1.0),
    ) -> None:
        super().__init__(weight, clip, sigma_range)
        self.target = target

    def full_push(self, moment: Moment, scales: Tensor) -> Push:
        """See `Guide.full_push`. Raises UserError when the prior learnt no spectra, or others."""
        prior = cast(ConditionalDenoiser, moment.prior)
        spectrum = prior.spectrum_of(self.target).expand(moment.noisy.size, -1)
        with torch.no_grad():
            told = prior.denoise(moment.noisy, moment.sigmas(), spectrum)
        return Push(scales[moment.noisy.structure, None] * (told - moment.unguided))


class CombinedGuidance:
    """Several guidances one after another: each sees the denoised structures as the ones before left them.

    Put `ClassifierFreeGuidance` first: gradients are then taken where the conditional prior leads. Each
    guidance keeps its own clip.
    """

    def __init__(self, guidances: Sequence[Guidance]) -> None:
        self.guidances = tuple(guidances)

    def check(self, count: int) -> None:
        """See `Guidance.check`."""
        for guidance in self.guidances:
            guidance.check(count)

    def push(self, moment: Moment) -> Push:
        """See `Guidance.push`."""
        total = Push.nothing(moment)
        for guidance in self.guidances:
            push = guidance.push(moment)
            moment = moment.moved(push.shift)
            total = total + push
            if not bool(torch.isfinite(total.shift).all()):
                break  # the next one could not be evaluated there; the sampler names the structure
        return total


def gradients(
    value: Callable[[Batch], Tensor], batch: Batch, variable_cell: bool
) -> tuple[Tensor, Tensor | None]:
    """∂U/∂x (N, 3) 1/Å and, with a variable cell, ∂U/∂ε (B,) for values U (B,) of a batch.

    ε scales cell and positions together. Raises UserError when the value depends on neither of what may move.
    """
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_(True)
        strain = batch.cells.new_zeros(batch.size, requires_grad=variable_cell)
        moving = batch.with_positions(positions)
        if variable_cell:
            moving = strained(moving, strain)
        total = value(moving).sum()
        if not total.requires_grad:
            raise UserError(
                "the objective does not depend on the positions, and the cell is fixed",
                got="no gradient",
                fix="let the cell change: cell_step=0.01 in the sampler's settings",
            )
        wanted = (positions, strain) if variable_cell else (positions,)
        found = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    return found[0], found[1] if variable_cell else None


def strained(batch: Batch, strain: Tensor) -> Batch:
    """Cells and positions scaled by exp(strain), strain: (B,)."""
    factor = torch.exp(strain)
    return replace(
        batch,
        positions=batch.positions * factor[batch.structure, None],
        cells=batch.cells * factor[:, None, None],
    )


def recast(batch: Batch, known: tuple[str, ...] | None, wanted: tuple[str, ...] | None) -> Batch:
    """A batch whose species count in the elements `known` as one that counts in `wanted`.

    Unchanged where one of them is None: it does not matter. Raises UserError for an element that is not
    wanted.
    """
    if known is None or wanted is None or known == wanted:
        return batch
    table = [wanted.index(element) if element in wanted else -1 for element in known]
    species = torch.tensor(table, device=batch.species.device)[batch.species]
    if bool((species < 0).any()):
        missing = sorted({known[k] for k in batch.species[species < 0].unique().tolist()})
        raise UserError(
            "what guides does not know an element of the structures", got=missing, fix=f"use only {wanted}"
        )
    return replace(batch, species=species)

"""How well a prior takes known noise off structures it has not seen."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_services.diffusion.condition import condition_spectra
from nearedge_services.diffusion.noise import training_sigmas
from nearedge_services.diffusion.prior import Prior
from nearedge_services.networks.graph import Batch, mean_by_structure

BANDS = (0.1, 0.35)
"""Noise levels in Å that part fine, middle and coarse noise in the reported losses."""

NOISE_SEED = 20_240_101
"""The draws are the same in every evaluation: two priors are compared on identical noise."""


def noisy(batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Batch, Tensor]:
    """The batch with σ · noise added, and the F (N, 3) that takes it off; noise: (N, 3), centred here."""
    centred = noise - mean_by_structure(noise, batch)[batch.structure]
    moved = batch.with_positions(batch.positions + sigma[batch.structure, None] * centred)
    return moved, -centred


def losses_by_structure(
    prior: Prior, batch: Batch, sigma: Tensor, noise: Tensor, spectrum: Tensor | None = None
) -> Tensor:
    """Mean square error of F per atom, (B,): 3 for a prior that knows nothing, 0 for one that knows all.

    spectrum: (B, G) 1/eV, what the prior is told, see `Prior.direction`.
    """
    moved, wanted = noisy(batch, sigma, noise)
    return mean_by_structure((prior.direction(moved, sigma, spectrum) - wanted).square().sum(-1), batch)


def evaluate_prior(prior: Prior, held_out: Sequence[Atoms]) -> dict[str, float]:
    """``denoising_loss`` on fixed noise draws, and the same in three bands of the noise level.

    Mean square error of the predicted noise per atom, in units of σ²: 3 (three directions) for no knowledge.
    Noise levels are spread over the distribution of the training. A prior that learnt spectra is not told
    them; how well it does when it is told is ``denoising_loss_conditional``, over the structures that have
    one. Raises ValueError without structures, and FloatingPointError when a loss is not finite.
    """
    if not held_out:
        raise ValueError("evaluation needs at least one held-out structure")
    rng = np.random.default_rng(NOISE_SEED)
    draws = prior.settings.evaluation_draws
    levels = (np.arange(draws) + 0.5) / draws
    shifts = (np.arange(len(held_out)) * 0.618034) % 1.0 - 0.5
    uniform = np.concatenate([(level + shifts / draws) for level in levels])
    sigmas = training_sigmas(uniform, prior.settings)
    repeated = [atoms for _ in range(draws) for atoms in held_out]
    noises = [rng.standard_normal((len(atoms), 3)) for atoms in repeated]
    losses = _losses(prior, repeated, sigmas, noises, None)
    summary = _summary(losses, sigmas)
    if prior.condition is not None:
        spectra = condition_spectra(repeated, prior.condition.space)
        told = _losses(prior, repeated, sigmas, noises, spectra)
        summary |= _conditional(told[np.isfinite(spectra).all(axis=1)])
    return summary


@torch.no_grad()
def _losses(
    prior: Prior,
    frames: Sequence[Atoms],
    sigmas: np.ndarray,
    noises: Sequence[np.ndarray],
    spectra: np.ndarray | None,
) -> np.ndarray:
    """The loss of each frame alone, (F,); frames without a spectrum are left out (NaN) when there are any."""
    losses = np.full(len(frames), np.nan)
    for index, atoms in enumerate(frames):
        if spectra is not None and not np.isfinite(spectra[index]).all():
            continue
        batch = prior.batch([atoms])
        level, noise = (
            torch.as_tensor(values).to(batch.positions)
            for values in (sigmas[index : index + 1], noises[index])
        )
        spectrum = None if spectra is None else torch.as_tensor(spectra[index : index + 1])
        losses[index] = losses_by_structure(prior, batch, level, noise, spectrum).item()
    return losses


def _conditional(losses: np.ndarray) -> dict[str, float]:
    if not len(losses):
        return {}
    if not np.isfinite(losses).all():
        raise FloatingPointError("the denoising loss with a spectrum is not finite")
    return {f"{Prior.HEADLINE}_conditional": float(losses.mean())}


def _summary(losses: np.ndarray, sigmas: np.ndarray) -> dict[str, float]:
    if not np.isfinite(losses).all():
        raise FloatingPointError("the denoising loss is not finite")
    low, high = BANDS
    bands = {"fine": sigmas < low, "middle": (sigmas >= low) & (sigmas < high), "coarse": sigmas >= high}
    summary = {Prior.HEADLINE: float(losses.mean())}
    summary |= {
        f"denoising_loss_{name}": float(losses[chosen].mean())
        for name, chosen in bands.items()
        if chosen.any()
    }
    return summary

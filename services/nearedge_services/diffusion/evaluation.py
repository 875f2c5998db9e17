"""How well a prior takes known noise off structures it has not seen."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_services.diffusion.noise import training_sigmas
from nearedge_services.diffusion.prior import Prior
from nearedge_services.networks.graph import Batch, mean_by_structure

BANDS = (0.1, 0.35)
"""Noise levels in Å that part fine, middle and coarse noise in the reported losses."""

NOISE_SEED = 20_240_101
"""The draws are the same in every evaluation: two priors are compared on identical noise."""

CHUNK_ATOMS = 512


def noisy(batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Batch, Tensor]:
    """The batch with σ · noise added, and the F (N, 3) that takes it off; noise: (N, 3), centred here."""
    centred = noise - mean_by_structure(noise, batch)[batch.structure]
    moved = batch.with_positions(batch.positions + sigma[batch.structure, None] * centred)
    return moved, -centred


def losses_by_structure(prior: Prior, batch: Batch, sigma: Tensor, noise: Tensor) -> Tensor:
    """Mean square error of F per atom, (B,): 3 for a prior that knows nothing, 0 for one that knows all."""
    moved, wanted = noisy(batch, sigma, noise)
    return mean_by_structure((prior.direction(moved, sigma) - wanted).square().sum(-1), batch)


def evaluate_prior(prior: Prior, held_out: Sequence[Atoms]) -> dict[str, float]:
    """``denoising_loss`` on fixed noise draws, and the same in three bands of the noise level.

    Mean square error of the predicted noise per atom, in units of σ²: 3 (three directions) for no knowledge.
    Noise levels are spread over the distribution of the training. Raises ValueError without structures,
    and FloatingPointError when a loss is not finite.
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
    losses = []
    for atoms, sigma in zip(repeated, sigmas, strict=True):
        batch = prior.batch([atoms])
        noise = torch.as_tensor(rng.standard_normal((len(atoms), 3))).to(batch.positions)
        with torch.no_grad():
            losses.append(
                losses_by_structure(prior, batch, batch.positions.new_tensor([sigma]), noise).item()
            )
    return _summary(np.array(losses), sigmas)


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

"""Teaching a prior to take noise off structures."""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.diffusion.evaluation import evaluate_prior, losses_by_structure
from nearedge_services.diffusion.frames import FrameDraws, frame_weights
from nearedge_services.diffusion.noise import stratified_uniforms, training_sigmas
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.networks.graph import Batch

Progress = Callable[[float, dict[str, float]], None]

REPORT_EVERY = 50


def train_prior(
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: PriorSettings,
    seed: int,
    initial: Prior | None = None,
    progress: Progress | None = None,
) -> tuple[Prior, dict[str, float]]:
    """A prior trained on the positions of `train`, and its metrics on `held_out` (none when that is empty).

    Frames are weighted as `frame_weights` says. With `initial` the training goes on from its weights, at the
    settings' warm learning rate; it must have the same sizes and know all elements. The same input and seed
    give the same prior on one thread. `progress` gets the share done and the running loss. Raises UserError
    for unusable structures and FloatingPointError when the loss or the weights stop being finite.
    """
    _check(train)
    prior = _first_prior(train, held_out, settings, seed, initial)
    rng = np.random.default_rng(seed)
    draws = FrameDraws(
        train, frame_weights(train, settings.energy_temperature_ev), settings.atoms_per_step, rng
    )
    peak = settings.warm_learning_rate if initial is not None else settings.learning_rate
    optimiser = torch.optim.AdamW(
        prior.parameters(), lr=peak, weight_decay=settings.weight_decay, betas=(0.9, 0.99), foreach=True
    )
    average = copy.deepcopy(prior).requires_grad_(False)
    running = math.nan
    prior.train()
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = peak * _schedule(step, settings)
        loss = _loss(prior, [train[k] for k in draws.draw()], settings, rng)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the training loss became {value} at step {step}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(
            prior.parameters(), settings.gradient_clip, error_if_nonfinite=True, foreach=True
        )
        optimiser.step()
        _average(average, prior, min(settings.ema, (1 + step) / (10 + step)))
        running = value if step == 0 else running + 0.02 * (value - running)
        if progress is not None and (step + 1) % REPORT_EVERY == 0:
            progress((step + 1) / settings.steps, {"training_loss": running})
    average.eval()
    metrics = {"training_loss": running} | (evaluate_prior(average, held_out) if held_out else {})
    return average, metrics


def _check(train: Sequence[Atoms]) -> None:
    if not train:
        raise UserError("there is nothing to train on", got="no structures", fix="give labelled structures")
    for index, atoms in enumerate(train):
        if not np.isfinite(atoms.positions).all():
            raise UserError(
                "a structure has positions that are not finite", got=f"structure {index}", fix="remove it"
            )


def _first_prior(
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: PriorSettings,
    seed: int,
    initial: Prior | None,
) -> Prior:
    elements = {symbol for atoms in [*train, *held_out] for symbol in atoms.get_chemical_symbols()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = Prior(sorted(elements) if initial is None else initial.elements, settings)
    if initial is None:
        return prior
    if initial.backbone.config != prior.backbone.config:
        raise UserError(
            "the prior to start from has other sizes",
            got=initial.backbone.config,
            fix="keep the network settings",
        )
    if unknown := elements - set(initial.elements):
        raise UserError("the prior to start from lacks elements", got=sorted(unknown), fix="train without it")
    prior.load_state_dict(initial.state_dict())
    return prior.to(initial.device)


def _loss(prior: Prior, frames: list[Atoms], settings: PriorSettings, rng: np.random.Generator) -> Tensor:
    batch: Batch = prior.batch(frames)
    sigmas = training_sigmas(stratified_uniforms(len(frames), rng), settings)
    noise = torch.as_tensor(rng.standard_normal(batch.positions.shape)).to(batch.positions)
    if settings.position_jitter_a:
        jitter = torch.as_tensor(rng.standard_normal(batch.positions.shape)).to(batch.positions)
        batch = batch.with_positions(batch.positions + settings.position_jitter_a * jitter)
    return losses_by_structure(prior, batch, batch.positions.new_tensor(sigmas), noise).mean()


def _schedule(step: int, settings: PriorSettings) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = min(settings.warmup_steps, settings.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(settings.steps - warmup, 1)))


@torch.no_grad()
def _average(average: Prior, prior: Prior, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(prior.parameters()), 1 - decay)

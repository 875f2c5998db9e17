"""Teaching a prior to take noise off structures."""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.diffusion.condition import condition_space, condition_spectra
from nearedge_services.diffusion.evaluation import evaluate_prior, losses_by_structure
from nearedge_services.diffusion.frames import FrameDraws, frame_weights
from nearedge_services.diffusion.noise import stratified_uniforms, training_sigmas
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.networks.graph import Batch

Array = npt.NDArray[np.float64]
Progress = Callable[[float, dict[str, float]], None]

REPORT_EVERY = 50


def train_prior(
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: PriorSettings,
    seed: int,
    initial: Prior | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> tuple[Prior, dict[str, float]]:
    """A prior trained on the positions of `train`, and its metrics on `held_out` (none when that is empty).

    Frames are weighted as `frame_weights` says. With `initial` the training goes on from its weights, at the
    settings' warm learning rate; it must have the same sizes and know all elements.

    With `spectrum_components` in the settings it also learns to be told the cell-mean spectrum; frames
    without one train without. The components are those of the training spectra; those of `initial` stay
    while the energy grid and the absorber do.

    The same input and seed give the same prior on one thread of a CPU. It is trained, and stays, on the torch
    `device`. `progress` gets the share done and the running
    loss. Raises UserError for unusable structures and FloatingPointError when the loss or the weights stop
    being finite.
    """
    _check(train)
    weights = frame_weights(train, settings.energy_temperature_ev)
    prior, spectra = _first_prior(train, held_out, settings, seed, initial, weights)
    prior = prior.to(device)
    rng = np.random.default_rng(seed)
    draws = FrameDraws(train, weights, settings.atoms_per_step, rng)
    peak = settings.warm_learning_rate if initial is not None else settings.learning_rate
    optimiser = torch.optim.AdamW(
        prior.parameters(), lr=peak, weight_decay=settings.weight_decay, betas=(0.9, 0.99), foreach=True
    )
    average = copy.deepcopy(prior).requires_grad_(False)
    running = math.nan
    prior.train()
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = peak * _schedule(step, settings)
        chosen = draws.draw()
        told = None if spectra is None else spectra[chosen]
        loss = _loss(prior, [train[k] for k in chosen], told, settings, rng)
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
    weights: Array,
) -> tuple[Prior, Array | None]:
    """The prior before training and the frames' spectra (F, G), None without a condition on them."""
    elements = {symbol for atoms in [*train, *held_out] for symbol in atoms.get_chemical_symbols()}
    learnt = initial.condition if initial is not None else None
    space = None
    if settings.spectrum_components:
        # nothing labelled yet: what the first prior was told stays as it was
        keep = learnt is not None and not any("xanes" in atoms.arrays for atoms in train)
        space = (
            learnt.space
            if learnt is not None and keep
            else condition_space(train, settings.spectrum_absorber)
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = Prior(sorted(elements) if initial is None else initial.elements, settings, space)
    if initial is not None:
        _check_initial(initial, prior, elements)
        same = learnt is None or learnt.space == space
        state = initial.state_dict()
        prior.load_state_dict(
            {key: value for key, value in state.items() if same or not key.startswith("condition.")},
            strict=same,
        )
    if prior.condition is None or space is None:
        return prior, None
    spectra = condition_spectra(train, space)
    if learnt is None or learnt.space != space:
        prior.condition.fit(spectra, weights)
    return prior, spectra


def _check_initial(initial: Prior, prior: Prior, elements: set[str]) -> None:
    if initial.backbone.config != prior.backbone.config:
        raise UserError(
            "the prior to start from has other sizes",
            got=initial.backbone.config,
            fix="keep the network settings",
        )
    if unknown := elements - set(initial.elements):
        raise UserError("the prior to start from lacks elements", got=sorted(unknown), fix="train without it")


def _loss(
    prior: Prior,
    frames: list[Atoms],
    spectra: Array | None,
    settings: PriorSettings,
    rng: np.random.Generator,
) -> Tensor:
    """Mean loss of one step; spectra: (B, G) of the frames, of which the dropout takes its share."""
    batch: Batch = prior.batch(frames)
    sigmas = training_sigmas(stratified_uniforms(len(frames), rng), settings)
    noise = torch.as_tensor(rng.standard_normal(batch.positions.shape)).to(batch.positions)
    if settings.position_jitter_a:
        jitter = torch.as_tensor(rng.standard_normal(batch.positions.shape)).to(batch.positions)
        batch = batch.with_positions(batch.positions + settings.position_jitter_a * jitter)
    told = None
    if spectra is not None:
        dropped = rng.random(len(frames)) < settings.spectrum_dropout
        told = torch.as_tensor(np.where(dropped[:, None], np.nan, spectra)).to(batch.positions)
        if prior.condition is not None and settings.spectrum_noise:
            # without it the few exact spectra of the training name their networks
            draws = torch.as_tensor(rng.standard_normal((len(frames), prior.condition.size - 1))).to(told)
            told = told + settings.spectrum_noise * draws @ prior.condition.components
    return losses_by_structure(prior, batch, batch.positions.new_tensor(sigmas), noise, told).mean()


def _schedule(step: int, settings: PriorSettings) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = min(settings.warmup_steps, settings.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(settings.steps - warmup, 1)))


@torch.no_grad()
def _average(average: Prior, prior: Prior, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(prior.parameters()), 1 - decay)

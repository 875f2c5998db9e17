"""Training a committee: Adam with a cosine schedule and averaged weights, deterministic on one thread."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nearedge_db.errors import UserError
from nearedge_services.potential.dataset import (
    TrainingSet,
    batches,
    bootstrap,
    labelled_frames,
    own_energies,
    training_set,
)
from nearedge_services.potential.errors import TrainingDiverged
from nearedge_services.potential.evaluation import calibrate, evaluate_potential
from nearedge_services.potential.graphs import chunks, collate
from nearedge_services.potential.network import build_network, run_network
from nearedge_services.potential.potential import Potential
from nearedge_services.potential.settings import Architecture, PotentialSettings

if TYPE_CHECKING:
    from ase import Atoms

Progress = Callable[[float, dict[str, float]], None]

_WARM_UP_STEPS = 20
_FINAL_RATE = 0.02
_MAX_SKIPPED = 0.2
_START_FORCES = 0.3
_CENTRE_ATOMS = 512
_ENERGY_ROUNDING_EV = 0.01
_FORCE_ROUNDING_EV_PER_A = 0.05
_FROM_DATA = {"scale_ev", "message_norm", "isolated_energies_ev"}
"""What of an architecture follows from the training set, and may differ between machines in the last digit."""


def train_potential(
    train: Sequence["Atoms"],
    held_out: Sequence["Atoms"],
    settings: PotentialSettings,
    seed: int,
    *,
    initial: Potential | None = None,
    first_member: int = 0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> tuple[Potential, dict[str, float]]:
    """A committee trained on labelled structures, with its held-out metrics (those of the training set
    without any).

    With `initial` the networks start from its weights, keep its architecture and take `settings.warm_steps`
    steps; the elements' own energies are fitted again. `progress(fraction, metrics)` is called some fifty
    times a member. The spread is calibrated on the held-out structures. Trained, and left,
    on the torch `device`. Members that are trained apart get `first_member`, their number in the committee that they
    are to be (see `committee`): they come out as if they had been trained in it.

    Raises UserError for missing labels or for elements that `initial` does not know, TrainingDiverged when
    the loss does not stay finite.
    """
    frames = labelled_frames(train, settings.max_force_ev_per_a)
    architecture, data = _prepare(frames, settings, initial)
    count = settings.members if initial is None else len(initial.members)
    members, losses = [], []
    for member in range(count):
        own_seed = _member_seed(seed, first_member + member)
        network = build_network(architecture, seed=own_seed)
        if initial is not None:
            network.load_state_dict(initial.members[member].state_dict())
        network.to(device)
        report = _part_of(progress, member, count)
        losses.append(
            _train_member(
                network,
                data,
                settings,
                warm=initial is not None,
                seed=own_seed,
                report=report,
            )
        )
        members.append(network)
    potential = Potential(architecture, members, device=device)
    judged = list(held_out) if held_out else frames
    potential.calibration = calibrate(potential, judged)
    metrics = evaluate_potential(potential, judged) | {"train_loss": float(np.mean(losses))}
    return potential, metrics


def committee(
    potentials: Sequence[Potential], held_out: Sequence["Atoms"]
) -> tuple[Potential, dict[str, float]]:
    """One potential, on the CPU, of the members of several that were trained on the same structures, its spread
    calibrated on the held-out ones; and its held-out metrics.

    Raises ValueError where they have other sizes.
    """
    sizes = [one.architecture.model_dump(exclude=_FROM_DATA) for one in potentials]
    if any(size != sizes[0] for size in sizes):
        raise ValueError("a committee needs members of the same sizes")
    members = [member for potential in potentials for member in potential.members]
    joined = Potential(potentials[0].architecture, members)
    joined.calibration = calibrate(joined, held_out)
    return joined, evaluate_potential(joined, held_out)


def _prepare(
    frames: list["Atoms"], settings: PotentialSettings, initial: Potential | None
) -> tuple[Architecture, TrainingSet]:
    if initial is not None:
        elements, cutoff = initial.architecture.elements, initial.architecture.cutoff_a
        unknown = sorted({int(z) for atoms in frames for z in atoms.numbers} - set(elements))
        if unknown:
            raise UserError(
                "the potential to start from does not know an element",
                got=f"atomic numbers {unknown}",
                fix="train from scratch",
            )
    else:
        elements, cutoff = (
            tuple(sorted({int(z) for atoms in frames for z in atoms.numbers})),
            settings.cutoff_a,
        )
    energies = own_energies(frames, elements)
    data = training_set(frames, elements, energies, cutoff)
    if initial is not None:
        return initial.architecture.model_copy(update={"isolated_energies_ev": energies}), data
    architecture = Architecture(
        elements=elements,
        isolated_energies_ev=energies,
        scale_ev=1.0,
        message_norm=max(math.sqrt(data.mean_neighbours), 1.0),
        **{name: getattr(settings, name) for name in Architecture.model_fields if hasattr(settings, name)},
    )
    return architecture.model_copy(update={"scale_ev": _output_scale(architecture, data)}), data


def _output_scale(architecture: Architecture, data: TrainingSet) -> float:
    """Scale at which untrained networks have forces of `_START_FORCES` times the size of the labels'."""
    network = build_network(architecture.model_copy(update={"core_repulsion": False}), seed=0)
    some = data.graphs[:: max(1, len(data.graphs) // 8)]
    forces = torch.cat([run_network(network, collate([graph], torch.device("cpu"))).forces for graph in some])
    size = float(forces.detach().square().mean().sqrt())
    if not (math.isfinite(size) and size > 0):
        raise UserError(
            "no forces to learn from",
            got="atoms without neighbours",
            fix="give denser structures or a larger cutoff_a",
        )
    return _START_FORCES * max(data.force_scale, 0.1) / size


def _member_seed(seed: int, member: int) -> int:
    return int(np.random.SeedSequence([seed, member]).generate_state(1)[0])


def _part_of(progress: Progress | None, member: int, count: int) -> Progress:
    def report(fraction: float, metrics: dict[str, float]) -> None:
        if progress is not None:
            progress((member + fraction) / count, metrics)

    return report


def _train_member(
    network: torch.nn.Module,
    data: TrainingSet,
    settings: PotentialSettings,
    *,
    warm: bool,
    seed: int,
    report: Progress,
) -> float:
    """Train one network in place and return the mean loss of the last tenth of the steps."""
    rng = np.random.default_rng(seed)
    steps = settings.warm_steps if warm else settings.steps
    peak = settings.warm_learning_rate if warm else settings.learning_rate
    indices = bootstrap(data.groups, rng) if settings.bootstrap else list(range(len(data.graphs)))
    draws = batches(indices, min(settings.batch_structures, len(indices)), rng)
    weights = [value for value in network.parameters() if value.requires_grad]
    average = [value.detach().clone() for value in weights]
    _centre(network, data)
    optimiser = torch.optim.Adam(weights, lr=peak, amsgrad=True)
    losses: list[float] = []
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = peak * _schedule(step, steps)
        loss = _loss(network, data, next(draws), settings)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.max_gradient_norm)
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            _check_skips(step + 1 - len(losses), steps)
            continue
        optimiser.step()
        losses.append(loss.item())
        _average(average, weights, min(settings.average_decay, (1 + step) / (10 + step)))
        if step % max(1, steps // 50) == 0:
            report(step / steps, {"loss": loss.item()})
    with torch.no_grad():
        for value, mean in zip(weights, average, strict=True):
            value.copy_(mean)
    _centre(network, data)
    report(1.0, {"loss": losses[-1]})
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _check_skips(skipped: int, steps: int) -> None:
    if skipped > _MAX_SKIPPED * steps:
        raise TrainingDiverged(
            f"the loss was not finite in {skipped} of {steps} steps: lower the learning rate"
        )


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / min(_WARM_UP_STEPS, steps))
    return rise * (_FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _loss(
    network: torch.nn.Module, data: TrainingSet, chosen: np.ndarray, settings: PotentialSettings
) -> torch.Tensor:
    """Energy per atom and force error; "robust" grows linearly with large errors, "squares" quadratically."""
    graphs = [data.graphs[i] for i in chosen]
    device = next(network.parameters()).device
    output = run_network(network, collate(graphs, device), training=True)
    sizes = torch.tensor([graph.size for graph in graphs], dtype=torch.float32, device=device)
    energy_error = (output.energies / sizes - data.energies_per_atom[chosen].to(device)).square()
    force_error = (
        (output.forces - torch.cat([data.forces[i] for i in chosen]).to(device)).square().sum(dim=-1)
    )
    if settings.loss == "robust":
        energy_error = (energy_error + _ENERGY_ROUNDING_EV**2).sqrt()
        force_error = (force_error + _FORCE_ROUNDING_EV_PER_A**2).sqrt()
    return settings.energy_weight * energy_error.mean() + settings.force_weight * force_error.mean()


def _centre(network: torch.nn.Module, data: TrainingSet) -> None:
    """Shift the network's energy per atom so that its mean error over the training set is zero.

    MACE's readouts have no constant term; learning one costs steps that the forces need.
    """
    device = next(network.parameters()).device
    errors = []
    for chosen in chunks(data.graphs, _CENTRE_ATOMS):
        graphs = [data.graphs[i] for i in chosen]
        sizes = torch.tensor([graph.size for graph in graphs], dtype=torch.float32, device=device)
        with torch.no_grad():
            energies = network(collate(graphs, device), compute_force=False)["interaction_energy"]
        errors.append(data.energies_per_atom[chosen].to(device) - energies / sizes)
    shift = network.get_buffer("scale_shift.shift")
    shift.add_(torch.cat(errors).mean())


@torch.no_grad()
def _average(average: Sequence[torch.Tensor], weights: Sequence[torch.Tensor], decay: float) -> None:
    for mean, value in zip(average, weights, strict=True):
        mean.mul_(decay).add_(value.detach(), alpha=1 - decay)

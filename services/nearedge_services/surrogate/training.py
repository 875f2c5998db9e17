"""Training an ensemble, from nothing or from earlier weights."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.surrogate.baseline import coordination_means
from nearedge_services.surrogate.basis import fit_basis
from nearedge_services.surrogate.dataset import LabelledStructure, grid_of, read_structures
from nearedge_services.surrogate.evaluation import evaluate_surrogate
from nearedge_services.surrogate.held_out import calibrate, cross_calibrated_coverage, held_out_cases
from nearedge_services.surrogate.network import Member, SpectrumNetwork
from nearedge_services.surrogate.noisy import random_sigmas
from nearedge_services.surrogate.optimising import Draws, Progress, moved, optimise
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate

#: Settings that fix the shape of the weights: a warm start cannot change them.
ARCHITECTURE = (
    "tight_binding",
    "members",
    "channels",
    "vectors",
    "radial",
    "layers",
    "cutoff_a",
    "components",
)
NOISE_AWARE_ARCHITECTURE = (
    "noise_aware_channels",
    "noise_aware_vectors",
    "noise_aware_layers",
    "noise_aware_cutoff_a",
)


def train_surrogate(
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: SurrogateSettings,
    seed: int,
    initial: Surrogate | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> tuple[Surrogate, dict[str, float]]:
    """Train on labelled structures; calibrate and evaluate on held-out ones of other groups.

    Deterministic for a seed on one thread of a CPU; trained, and left, on the torch ``device``. ``initial``
    starts from its weights and keeps its basis, elements and grid, with the settings' ``refine_steps``. The
    metrics are those of ``evaluate_surrogate``; ``coverage_90`` and ``distance_coverage_90`` are of groups
    whose own errors took no part in the calibration. Raises UserError for unlabelled structures, mixed grids,
    an empty set, or settings that do not fit ``initial``; FloatingPointError when the training diverges.
    """
    if not train or not held_out:
        raise UserError(
            "training needs training and held-out structures",
            got=(len(train), len(held_out)),
            fix="label more networks",
        )
    elements = initial.elements if initial else _elements([*train, *held_out])
    grid = initial.grid if initial else grid_of(train[0])
    structures = read_structures(train, elements, grid)
    unseen = read_structures(held_out, elements, grid)
    network = _copy(initial, settings) if initial else _fresh(structures, settings, elements, grid, seed)
    network.to(device)
    for fit in (_fit_members, _fit_noise_aware):
        fit(network, structures, elements, settings, seed, initial is not None, progress)
    species = [_species(structure, elements) for structure in structures]
    network.coordination_means.copy_(coordination_means(structures, species, network.means.cpu()))
    absorbers = tuple(e for k, e in enumerate(elements) if any(bool(s.complete[k]) for s in structures))
    cases = held_out_cases(network.eval(), unseen, elements, absorbers, grid)
    surrogate = Surrogate(network, settings, elements, absorbers, grid, calibrate(cases, grid))
    metrics = evaluate_surrogate(surrogate, held_out) | cross_calibrated_coverage(cases, grid)
    return surrogate, metrics


def _elements(structures: Sequence[Atoms]) -> tuple[str, ...]:
    return tuple(sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}))


def _species(structure: LabelledStructure, elements: tuple[str, ...]) -> Tensor:
    return Batch.from_atoms([structure.atoms], elements).species


def _fresh(
    structures: Sequence[LabelledStructure],
    settings: SurrogateSettings,
    elements: tuple[str, ...],
    grid: EnergyGrid,
    seed: int,
) -> SpectrumNetwork:
    """Untrained members over the basis of these structures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SpectrumNetwork(settings, elements, grid)
    species = [_species(structure, elements) for structure in structures]
    basis = fit_basis(structures, species, len(elements), len(network.components))
    network.means.copy_(basis.means)
    network.components.copy_(basis.components)
    return network.train()


def _copy(initial: Surrogate, settings: SurrogateSettings) -> SpectrumNetwork:
    """The initial members, to be trained further. Raises UserError when the settings ask for other
    networks.
    """
    fixed = ARCHITECTURE + (NOISE_AWARE_ARCHITECTURE if settings.noise_aware_steps else ())
    changed = [name for name in fixed if getattr(settings, name) != getattr(initial.settings, name)]
    if changed:
        raise UserError(
            "the settings do not fit the initial surrogate", got=changed, fix="keep them or start anew"
        )
    network = copy.deepcopy(initial.network).train()
    if settings.noise_aware_steps == 0:
        network.noisy = None
    elif network.noisy is None:
        raise UserError(
            "the initial surrogate has no noise-aware network to train further",
            got=f"noise_aware_steps {settings.noise_aware_steps}",
            fix="set noise_aware_steps: 0 or start anew",
        )
    return network


def _fit_members(
    network: SpectrumNetwork,
    structures: Sequence[LabelledStructure],
    elements: tuple[str, ...],
    settings: SurrogateSettings,
    seed: int,
    warm: bool,
    progress: Progress | None,
) -> None:
    """Train the members in place, each with its own draws."""
    steps = settings.refine_steps if warm else settings.steps
    peak = settings.refine_learning_rate if warm else settings.learning_rate
    share = 0.75 / settings.members if network.noisy else 1 / settings.members
    for index in range(settings.members):
        member = cast(Member, network.members[index])
        generator = torch.Generator().manual_seed(seed + 7919 * (index + 1))
        draws = Draws(structures, elements, settings, settings.bootstrap, generator, network.means.device)

        def loss_of_step(draws: Draws = draws, member: Member = member) -> Tensor:
            examples = draws.draw()
            batch = _jittered(examples.batch, settings, draws.generator)
            spectra = member(batch, network.geometry(batch), network.basis)
            return examples.loss(spectra, settings.cell_mean_weight)

        report = _part(progress, index * share, share, member=index + 1)
        optimise(member, loss_of_step, steps, peak, settings, report)


def _fit_noise_aware(
    network: SpectrumNetwork,
    structures: Sequence[LabelledStructure],
    elements: tuple[str, ...],
    settings: SurrogateSettings,
    seed: int,
    warm: bool,
    progress: Progress | None,
) -> None:
    """Train the noise-aware network in place, if there is one: clean spectra from noisy positions."""
    noisy = network.noisy
    if noisy is None:
        return
    generator = torch.Generator().manual_seed(seed + 104729)
    draws = Draws(structures, elements, settings, 0.0, generator, network.means.device)

    def loss_of_step() -> Tensor:
        examples = draws.draw()
        sigma = random_sigmas(len(examples.batch.counts), generator).to(network.means.device)
        batch = moved(examples.batch, sigma, generator)
        spectra = network.basis.spectra(noisy(batch, sigma), batch.species)
        return examples.loss(spectra, settings.noise_aware_cell_mean_weight)

    ratio = settings.refine_steps / settings.steps if warm else 1.0
    steps = max(1, round(settings.noise_aware_steps * min(ratio, 1.0)))
    peak = settings.noise_aware_learning_rate * (0.4 if warm else 1.0)
    optimise(noisy, loss_of_step, steps, peak, settings, _part(progress, 0.75, 0.25))


def _jittered(batch: Batch, settings: SurrogateSettings, generator: torch.Generator) -> Batch:
    """Positions with noise, its size drawn for each structure."""
    if not settings.jitter_max_a:
        return batch
    share = torch.rand(len(batch.counts), generator=generator).to(batch.positions.device)
    sigma = settings.jitter_min_a + (settings.jitter_max_a - settings.jitter_min_a) * share
    return moved(batch, sigma, generator)


def _part(progress: Progress | None, start: float, share: float, **always: Any) -> Progress:
    """Reports of one network as those of the whole training."""

    def report(fraction: float, values: dict[str, Any]) -> None:
        if progress is not None:
            progress(start + share * fraction, {**always, **values})

    return report

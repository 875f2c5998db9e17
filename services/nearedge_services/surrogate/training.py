"""Training an ensemble, from nothing or from earlier weights."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.surrogate.baseline import coordination_means
from nearedge_services.surrogate.basis import fit_basis
from nearedge_services.surrogate.dataset import LabelledStructure, element_means, grid_of, read_structures
from nearedge_services.surrogate.evaluation import evaluate_surrogate
from nearedge_services.surrogate.held_out import calibrate, cross_calibrated_coverage, held_out_cases
from nearedge_services.surrogate.network import Member, SpectrumNetwork
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate

Progress = Callable[[float, dict[str, Any]], None]

#: Settings that fix the shape of the weights: a warm start cannot change them.
ARCHITECTURE = ("members", "channels", "vectors", "radial", "layers", "cutoff_a", "components")

#: Share of the steps in which the learning rate rises.
WARM_UP = 0.05

#: Steps between two reports of the loss.
REPORT_EVERY = 25


def train_surrogate(
    train: Sequence[Atoms],
    held_out: Sequence[Atoms],
    settings: SurrogateSettings,
    seed: int,
    initial: Surrogate | None = None,
    progress: Progress | None = None,
) -> tuple[Surrogate, dict[str, float]]:
    """Train on labelled structures; calibrate and evaluate on held-out ones of other groups.

    Deterministic for a seed on one thread. ``initial`` starts from its weights and keeps its basis, elements
    and grid, with the settings' ``refine_steps``. The metrics are those of ``evaluate_surrogate``;
    ``coverage_90`` and ``distance_coverage_90`` are of groups whose own errors took no part in the
    calibration. Raises UserError for unlabelled structures, mixed grids, an empty set, or settings that do
    not fit ``initial``; FloatingPointError when the training diverges.
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
    network = _copy(initial, settings) if initial else _fresh(structures, settings, elements, grid.size, seed)
    course = _Course(network, structures, elements, settings, warm=initial is not None)
    for index in range(settings.members):
        course.fit(index, seed, _member_progress(progress, index, settings.members))
    species = [_species(structure, elements) for structure in structures]
    network.coordination_means.copy_(coordination_means(structures, species, network.means))
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
    grid_size: int,
    seed: int,
) -> SpectrumNetwork:
    """Untrained members over the basis of these structures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SpectrumNetwork(settings, len(elements), grid_size)
    species = [_species(structure, elements) for structure in structures]
    basis = fit_basis(structures, species, len(elements), len(network.components))
    network.means.copy_(basis.means)
    network.components.copy_(basis.components)
    return network.train()


def _copy(initial: Surrogate, settings: SurrogateSettings) -> SpectrumNetwork:
    """The initial members, to be trained further. Raises UserError when the settings ask for other
    networks.
    """
    changed = [name for name in ARCHITECTURE if getattr(settings, name) != getattr(initial.settings, name)]
    if changed:
        raise UserError(
            "the settings do not fit the initial surrogate", got=changed, fix="keep them or start anew"
        )
    return copy.deepcopy(initial.network).train()


@dataclass(frozen=True)
class _Course:
    """One training: what all members have in common."""

    network: SpectrumNetwork
    structures: Sequence[LabelledStructure]
    elements: tuple[str, ...]
    settings: SurrogateSettings
    warm: bool

    def fit(self, index: int, seed: int, report: Progress) -> None:
        """Train member ``index`` in place."""
        member = cast(Member, self.network.members[index])
        generator = torch.Generator().manual_seed(seed + 7919 * (index + 1))
        chances = _bootstrap(self.structures, self.settings.bootstrap, generator)
        steps = self.settings.refine_steps if self.warm else self.settings.steps
        peak = self.settings.refine_learning_rate if self.warm else self.settings.learning_rate
        optimiser = torch.optim.AdamW(
            member.parameters(), lr=peak, weight_decay=self.settings.weight_decay, fused=True
        )
        mean_atoms = sum(len(structure.atoms) for structure in self.structures) / len(self.structures)
        size = max(1, round(self.settings.batch_atoms / mean_atoms))
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = peak * _schedule(step / steps)
            chosen = torch.multinomial(chances, size, replacement=True, generator=generator).tolist()
            loss = self._loss(member, [self.structures[i] for i in chosen], generator)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(member.parameters(), self.settings.gradient_clip)
            optimiser.step()
            if step % REPORT_EVERY == REPORT_EVERY - 1 or step == steps - 1:
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the surrogate's training diverged at step {step}: loss {value}"
                    )
                report((step + 1) / steps, {"loss": value})

    def _loss(
        self, member: Member, structures: Sequence[LabelledStructure], generator: torch.Generator
    ) -> Tensor:
        """Per-atom mean squared error plus the weighted one of the cell means, both dimensionless."""
        batch = Batch.from_atoms([structure.atoms for structure in structures], self.elements)
        batch = _jittered(batch, self.settings, generator)
        true = torch.cat([structure.spectra for structure in structures])
        labelled = torch.cat([structure.labelled for structure in structures])
        complete = torch.stack([structure.complete for structure in structures])
        amounts = member(batch, self.network.neighbours(batch))
        error = self.network.basis.spectra(amounts, batch.species) - true
        loss = error[labelled].square().mean()
        if bool(complete.any()):
            of_means = element_means(error, labelled, batch, len(self.elements))[complete]
            loss = loss + self.settings.cell_mean_weight * of_means.square().mean()
        return loss


def _bootstrap(
    structures: Sequence[LabelledStructure], strength: float, generator: torch.Generator
) -> Tensor:
    """Chance of each structure: exponential weights over groups (Rubin, "The Bayesian bootstrap", 1981)."""
    groups = sorted({structure.group for structure in structures})
    draws = -torch.log(torch.rand(len(groups), generator=generator).clamp_min(1e-6))
    weight = dict(zip(groups, (1 - strength + strength * draws).tolist(), strict=True))
    return torch.tensor([weight[structure.group] for structure in structures])


def _schedule(done: float) -> float:
    """Learning rate relative to its peak: a short rise, then a cosine to zero."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _jittered(batch: Batch, settings: SurrogateSettings, generator: torch.Generator) -> Batch:
    """Positions with noise, its size drawn for each structure: labels of small displacements are the same."""
    share = torch.rand(len(batch.counts), generator=generator)
    sigma = settings.jitter_min_a + (settings.jitter_max_a - settings.jitter_min_a) * share
    noise = torch.randn(batch.positions.shape, generator=generator)
    return batch.with_positions(batch.positions + noise * sigma[batch.structure, None])


def _member_progress(progress: Progress | None, index: int, members: int) -> Progress:
    def report(fraction: float, values: dict[str, Any]) -> None:
        if progress is not None:
            progress((index + fraction) / members, {"member": index + 1, **values})

    return report

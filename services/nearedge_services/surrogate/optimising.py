"""The loop that trains one network of a surrogate."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nearedge_services.networks.graph import Batch
from nearedge_services.surrogate.dataset import LabelledStructure, element_means
from nearedge_services.surrogate.settings import SurrogateSettings

Progress = Callable[[float, dict[str, Any]], None]

#: Share of the steps in which the learning rate rises.
WARM_UP = 0.05

#: Steps between two reports of the loss.
REPORT_EVERY = 25


@dataclass(frozen=True)
class Examples:
    """Some training structures as tensors; see ``LabelledStructure``.

    Attributes:
        batch: B structures of N atoms in all.
        true: (N, G) spectra, dimensionless.
        labelled: (N,) bool.
        complete: (B, S) bool.
    """

    batch: Batch
    true: Tensor
    labelled: Tensor
    complete: Tensor

    @classmethod
    def of(
        cls,
        structures: Sequence[LabelledStructure],
        elements: tuple[str, ...],
        device: torch.device | str = "cpu",
    ) -> "Examples":
        """Those structures, one after another."""
        return cls(
            batch=Batch.from_atoms([structure.atoms for structure in structures], elements, device=device),
            true=torch.cat([structure.spectra for structure in structures]).to(device),
            labelled=torch.cat([structure.labelled for structure in structures]).to(device),
            complete=torch.stack([structure.complete for structure in structures]).to(device),
        )

    def loss(self, spectra: Tensor, cell_mean_weight: float) -> Tensor:
        """Per-atom mean squared error plus the weighted one of the cell means, both dimensionless."""
        error = spectra - self.true
        loss = error[self.labelled].square().mean()
        if bool(self.complete.any()):
            means = element_means(error, self.labelled, self.batch, self.complete.shape[1])[self.complete]
            loss = loss + cell_mean_weight * means.square().mean()
        return loss


def optimise(
    network: nn.Module,
    loss_of_step: Callable[[], Tensor],
    steps: int,
    peak: float,
    settings: SurrogateSettings,
    report: Progress,
) -> None:
    """Train ``network`` in place and leave the averaged weights in it.

    ``loss_of_step`` draws examples and gives their loss; ``peak``: largest learning rate. Raises
    FloatingPointError when the loss is not finite.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=peak, weight_decay=settings.weight_decay, betas=(0.9, 0.99), fused=True
    )
    average = copy.deepcopy(network).requires_grad_(False)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = peak * schedule(step / steps)
        loss = loss_of_step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the surrogate's training diverged at step {step}: loss {value}")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip, error_if_nonfinite=True)
        optimiser.step()
        _average(average, network, min(settings.ema, (1 + step) / (10 + step)))
        if step % REPORT_EVERY == REPORT_EVERY - 1 or step == steps - 1:
            report((step + 1) / steps, {"loss": value})
    network.load_state_dict(average.state_dict())


def schedule(done: float) -> float:
    """Learning rate relative to its peak: a short rise, then a cosine to zero."""
    if done < WARM_UP:
        return (done + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


class Draws:
    """Random training structures, about ``batch_atoms`` atoms at a time."""

    def __init__(
        self,
        structures: Sequence[LabelledStructure],
        elements: tuple[str, ...],
        settings: SurrogateSettings,
        bootstrap: float,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        self.structures = structures
        self.elements = elements
        self.generator = generator
        self.device = device
        self.chances = bootstrap_chances(structures, bootstrap, generator)
        mean_atoms = sum(len(structure.atoms) for structure in structures) / len(structures)
        self.size = max(1, round(settings.batch_atoms / mean_atoms))

    def draw(self) -> Examples:
        """The examples of one step."""
        chosen = torch.multinomial(self.chances, self.size, replacement=True, generator=self.generator)
        return Examples.of([self.structures[i] for i in chosen.tolist()], self.elements, self.device)


def bootstrap_chances(
    structures: Sequence[LabelledStructure], strength: float, generator: torch.Generator
) -> Tensor:
    """Chance of each structure: exponential weights over groups (Rubin, "The Bayesian bootstrap", 1981)."""
    groups = sorted({structure.group for structure in structures})
    draws = -torch.log(torch.rand(len(groups), generator=generator).clamp_min(1e-6))
    weight = dict(zip(groups, (1 - strength + strength * draws).tolist(), strict=True))
    return torch.tensor([weight[structure.group] for structure in structures])


def moved(batch: Batch, sigma: Tensor, generator: torch.Generator) -> Batch:
    """Positions with Gaussian noise of ``sigma`` (B,) Å."""
    noise = torch.randn(batch.positions.shape, generator=generator).to(batch.positions)
    return batch.with_positions(batch.positions + noise * sigma[batch.structure, None])

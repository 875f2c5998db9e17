"""What the sampler shows a guidance at each step, and what it takes back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from ase import Atoms
from torch import Tensor

from nearedge_services.networks.graph import Batch


class Denoiser(Protocol):
    """What the sampler needs of a prior."""

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """Structures as tensors."""
        ...

    def denoise(self, batch: Batch, sigma: Tensor) -> Tensor:
        """Expected clean positions (N, 3) Å; sigma: (B,) Å."""
        ...


@dataclass(frozen=True)
class Moment:
    """One step of sampling B structures with N atoms in all."""

    noisy: Batch
    """Where the atoms are."""
    unguided: Tensor
    """Where the prior alone expects them, (N, 3) Å."""
    denoised: Batch
    """The same as moved by the guidances before this one, with fixed atoms in their places."""
    sigma: float
    """Noise level, Å."""
    prior: Denoiser
    members: Tensor
    """Position of each structure in the call to `sample`, (B,) int64."""
    variable_cell: bool = False
    """Whether a strain is wanted."""

    def moved(self, shift: Tensor) -> "Moment":
        """The moment as the next guidance sees it; shift: (N, 3) Å."""
        return replace(self, denoised=self.denoised.with_positions(self.denoised.positions + shift))

    def sigmas(self) -> Tensor:
        """The noise level of each structure, (B,) Å."""
        return self.unguided.new_full((self.noisy.size,), self.sigma)


@dataclass(frozen=True)
class Push:
    """What a guidance does to the denoised structures.

    shift: (N, 3) Å at fixed cell; strain: (B,), the change of the logarithm of the cell's length that it
    proposes, None where it has nothing to say.
    """

    shift: Tensor
    strain: Tensor | None = None

    @classmethod
    def nothing(cls, moment: Moment) -> "Push":
        """No push."""
        return cls(torch.zeros_like(moment.unguided))

    def __add__(self, other: "Push") -> "Push":
        strains = [push.strain for push in (self, other) if push.strain is not None]
        return Push(self.shift + other.shift, torch.stack(strains).sum(0) if strains else None)


class Guidance(Protocol):
    """Something that moves denoised structures towards where they should be."""

    def check(self, count: int) -> None:
        """Raise ValueError when it cannot guide `count` structures."""
        ...

    def push(self, moment: Moment) -> Push:
        """How the denoised structures of this moment should change."""
        ...

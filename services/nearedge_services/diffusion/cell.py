"""A cell whose volume changes while the atoms are sampled.

An objective that names the density is reached within a percent. A surrogate's spectrum is a poor guide for a
cell: at high noise the denoised atoms are blurred, the gradient on the cell is biased towards compression,
and with a long range of noise levels the volume runs to its limit. Infer the density first
(`nearedge_services.inference`), or let guidance act below 0.15 Å only.
"""

import torch
from torch import Tensor

GROWTH = 1.2
SHRINKAGE = 0.5


class CellSteps:
    """How far each cell goes along the strains that guidance proposes.

    Nothing tells how stiff an objective is, so that a step of fixed length would swing about its minimum.
    Every structure has its own longest step: half as long when the proposal turns round, 1.2 times as long,
    up to the largest, when it does not (resilient propagation, Riedmiller and Braun, 1993).
    """

    def __init__(self, largest: float, limit: float, like: Tensor) -> None:
        """Largest: of a change of ln(volume) in a step; limit: factor of the volume in all; like: (B,)."""
        self.largest = largest / 3
        self.longest = torch.full_like(like, self.largest)
        self.previous = torch.zeros_like(like)
        self.total = torch.zeros_like(like)
        self.bound = float(torch.log(torch.tensor(limit))) / 3

    def taken(self, proposed: Tensor) -> Tensor:
        """The strain (B,) of this step, the change of the logarithm of the length."""
        turned = proposed * self.previous < 0
        self.longest = torch.where(
            turned, SHRINKAGE * self.longest, (GROWTH * self.longest).clamp(max=self.largest)
        )
        step = torch.minimum(torch.maximum(proposed, -self.longest), self.longest)
        step = (self.total + step).clamp(-self.bound, self.bound) - self.total
        self.previous = torch.where(proposed == 0, self.previous, proposed)
        self.total = self.total + step
        return step

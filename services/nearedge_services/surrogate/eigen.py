"""Functions of symmetric matrices whose gradients stay finite where eigenvalues coincide.

Derivatives of a matrix function need divided differences of its eigenvalues (Daleckii and Krein, 1965; Higham,
"Functions of Matrices", 2008, theorem 3.11). The ones of S^-1/2 have a closed form. The ones of eigenvectors
are 0/0 for equal eigenvalues: they are damped there. Disordered structures have no equal eigenvalues; in a
perfect crystal the gradient is finite but lacks the part that mixes degenerate orbitals.
"""

from typing import Any, cast

import torch
from torch import Tensor

#: Smallest eigenvalue of an overlap matrix: atoms on top of each other would make it singular.
SMALLEST_OVERLAP = 0.02

#: Differences of eigenvalues below this, in the unit of the matrix, count as none.
DEGENERATE = 1e-3

#: Orbitals above and below the last electron pair among which the chemical potential is sought.
FRONTIER = 32


class _InverseRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(values, vectors)
        return (vectors / values.clamp_min(SMALLEST_OVERLAP).sqrt()[:, None]) @ vectors.mT

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        roots = values.clamp_min(SMALLEST_OVERLAP).sqrt()
        left, right = roots[:, :, None], roots[:, None]
        differences = -1 / (left * right * (left + right))
        # a raised eigenvalue no longer moves: the part of its distance to another that is left
        clamped = values.clamp_min(SMALLEST_OVERLAP)
        gaps, real = (e[:, :, None] - e[:, None] for e in (values, clamped))
        same = (gaps == 0) | (gaps == real)
        share = torch.where(same, torch.ones_like(gaps), real / torch.where(same, 1.0, gaps))
        raised = values < SMALLEST_OVERLAP
        share = share.masked_fill(raised[:, :, None] & raised[:, None], 0.0)
        return vectors @ ((vectors.mT @ gradients[0] @ vectors) * differences * share) @ vectors.mT


class _Eigensystem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        ctx.save_for_backward(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        gaps = values[:, None] - values[:, :, None]
        inner = (vectors.mT @ gradients[1]) * (gaps / (gaps.square() + DEGENERATE**2))
        inner = inner + torch.diag_embed(gradients[0])
        return vectors @ (0.5 * (inner + inner.mT)) @ vectors.mT


class _ChemicalPotential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, levels: Tensor, electrons: Tensor, kt: float) -> Tensor:
        energies = levels.double()
        middle = int(electrons.mean().item() / 2)
        first = max(min(middle, energies.shape[1] - 1) - FRONTIER, 0)
        frontier = energies[:, first : middle + FRONTIER]
        low, high = frontier[:, 0] - 10 * kt, frontier[:, -1] + 10 * kt
        for _ in range(40):
            trial = 0.5 * (low + high)
            held = 2 * (first + torch.sigmoid((trial[:, None] - frontier) / kt).sum(1))
            few = held < electrons
            low, high = torch.where(few, trial, low), torch.where(few, high, trial)
        potential = 0.5 * (low + high)
        occupation = torch.sigmoid((potential[:, None] - energies) / kt)
        slope = occupation * (1 - occupation) + 1e-12
        ctx.save_for_backward((slope / slope.sum(1, keepdim=True)).to(levels.dtype))
        return potential.to(levels.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (shares,) = ctx.saved_tensors
        return shares * gradients[0][:, None], None, None


def inverse_root(matrices: Tensor) -> Tensor:
    """S^-1/2 of symmetric matrices (B, M, M), eigenvalues below SMALLEST_OVERLAP raised to it."""
    return cast(Tensor, _InverseRoot.apply(matrices))


def eigensystem(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues (B, M) and eigenvectors (B, M, M) in columns, of symmetric matrices."""
    return cast(tuple[Tensor, Tensor], _Eigensystem.apply(matrices))


def chemical_potential(levels: Tensor, electrons: Tensor, kt: float) -> Tensor:
    """Where the levels (B, M), ascending, hold ``electrons`` (B,), two in each: (B,), unit of the levels.

    Fermi-Dirac occupation with ``kt``; all structures of a batch have about as many electrons. The gradient
    is that of the implicit equation (Σ f' dε / Σ f').
    """
    return cast(Tensor, _ChemicalPotential.apply(levels, electrons, kt))

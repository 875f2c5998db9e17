"""Matrix functions against their definitions, and gradients that survive equal eigenvalues."""

import numpy as np
import pytest
import torch

from nearedge_services.oracles.xtb_xanes import chemical_potential as reference_potential
from nearedge_services.surrogate.eigen import SMALLEST_OVERLAP, chemical_potential, eigensystem, inverse_root


def symmetric(values: list[float], seed: int = 0) -> torch.Tensor:
    """A symmetric matrix (1, M, M) with these eigenvalues."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return torch.tensor(turn @ np.diag(values) @ turn.T)[None]


def derivative(function, matrix: torch.Tensor, direction: torch.Tensor, step: float = 1e-5) -> float:
    up, down = function(matrix + step * direction), function(matrix - step * direction)
    return float((up - down) / (2 * step))


@pytest.mark.parametrize("values", [[0.3, 0.7, 1.2, 2.0], [0.5, 1.0, 1.0, 1.0], [-0.1, 0.01, 0.5, 1.0]])
def test_inverse_root_and_its_gradient(values):
    matrix = symmetric(values)
    root, raised = inverse_root(matrix), symmetric(np.maximum(values, SMALLEST_OVERLAP).tolist())
    assert torch.allclose(root @ raised @ root, torch.eye(4, dtype=torch.float64))

    weights, direction = symmetric([1.0, -2.0, 0.5, 3.0], 1), symmetric([1.0, 0.3, -1.0, 0.2], 2)
    variable = matrix.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((inverse_root(variable) * weights).sum(), variable)
    numeric = derivative(lambda m: (inverse_root(m) * weights).sum(), matrix, direction)
    assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-5)


def test_inverse_root_of_a_singular_matrix_is_finite():
    matrix = symmetric([-0.2, 0.0, 1.0, 2.0]).requires_grad_()
    (gradient,) = torch.autograd.grad(inverse_root(matrix).sum(), matrix)
    assert bool(inverse_root(matrix).isfinite().all())
    assert bool(gradient.isfinite().all())


def smooth_weight(matrix: torch.Tensor) -> torch.Tensor:
    """The first diagonal element of tanh H: a smooth function of the matrix."""
    values, vectors = eigensystem(matrix)
    return (vectors[:, 0].square() * torch.tanh(values)).sum()


@pytest.mark.parametrize("values", [[-1.0, 0.4, 1.1, 2.5], [-1.0, 0.7, 0.73, 0.75]])
def test_gradient_of_a_matrix_function_through_the_eigensystem(values):
    matrix, direction = symmetric(values), symmetric([1.0, 0.3, -1.0, 0.2], 2)
    variable = matrix.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(smooth_weight(variable), variable)
    numeric = derivative(smooth_weight, matrix, direction)
    assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=5e-3)


def test_gradient_at_equal_eigenvalues_is_finite():
    matrix = symmetric([-1.0, 0.7, 0.7, 0.7]).float().requires_grad_()
    (gradient,) = torch.autograd.grad(smooth_weight(matrix), matrix)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) < 10


@pytest.mark.parametrize("electrons", [40.0, 41.0])
@pytest.mark.parametrize("gap", [0.0, 3.0])
def test_chemical_potential_is_the_oracles(gap, electrons):
    levels = np.sort(np.random.default_rng(3).uniform(-20, 20, 120))
    levels[20:] += gap
    mine = chemical_potential(torch.tensor(levels)[None], torch.tensor([electrons]), 0.15)
    assert float(mine) == pytest.approx(reference_potential(levels, electrons, 0.15), abs=1e-6)


def test_gradient_of_the_chemical_potential():
    levels = torch.linspace(-3, 3, 20, dtype=torch.float64)[None].requires_grad_()
    electrons = torch.tensor([17.0])
    (gradient,) = torch.autograd.grad(chemical_potential(levels, electrons, 0.3).sum(), levels)
    assert float(gradient.sum()) == pytest.approx(1.0)  # a shift of all levels shifts it as much
    step = torch.zeros_like(levels)
    step[0, 9] = 1e-4
    with torch.no_grad():
        change = chemical_potential(levels + step, electrons, 0.3) - chemical_potential(
            levels - step, electrons, 0.3
        )
    assert float(gradient[0, 9]) == pytest.approx(float(change) / 2e-4, rel=1e-4)

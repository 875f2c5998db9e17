"""The noise-aware network: what it learns, its symmetries, its gradient."""

import copy

import numpy as np
import pytest
import torch
from tests.services.surrogate.synthetic import labelled_networks, network, target

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.surrogate.noisy import SIGMA_RANGE_A, random_sigmas


def sigmas(count: int, value: float = 0.1) -> torch.Tensor:
    return torch.full((count,), value)


def noisy_means(surrogate, structures, sigma: float, seed: int = 0) -> np.ndarray:
    """Expected cell means (B, G) after noise of that size."""
    batch = surrogate.batch(structures)
    noise = torch.randn(batch.positions.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        moved = batch.with_positions(batch.positions + sigma * noise)
        return surrogate.noisy_cell_means(moved, sigmas(len(structures), sigma), "C").numpy()


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def test_without_noise_it_agrees_with_the_clean_networks(trained):
    surrogate, structures = trained[0], labelled_networks(8, first=400)
    clean = surrogate.member_cell_means(structures, "C").mean(0)
    expected = noisy_means(surrogate, structures, 0.0)
    assert rms(expected - clean) < 0.5 * rms(clean - clean.mean(0))


def test_it_knows_less_the_more_noise_there_is(trained):
    surrogate, structures = trained[0], labelled_networks(12, first=400)
    clean = surrogate.member_cell_means(structures, "C").mean(0)
    errors = [rms(noisy_means(surrogate, structures, sigma) - clean) for sigma in (0.03, 0.15, 0.6)]
    assert errors[0] < errors[1] < 1.2 * errors[2]
    # at large noise it falls back to what is common to all: no worse than saying nothing
    assert errors[2] < 1.3 * rms(clean - clean.mean(0))


def test_turning_moving_and_renumbering_change_nothing(trained):
    surrogate, aim, atoms = trained[0], target(), network(5)
    turned = atoms[np.random.default_rng(0).permutation(len(atoms))]
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += [5.0, -3.0, 0.4]
    values = [surrogate.noisy_mismatch(surrogate.batch([a]), sigmas(1), aim).item() for a in (atoms, turned)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_gradient_turns_with_the_structure(trained):
    surrogate, aim, atoms = trained[0], target(), network(5)
    turned = atoms.copy()
    turned.rotate(90, "z", rotate_cell=True)

    def gradient(structure):
        batch = surrogate.batch([structure])
        positions = batch.positions.requires_grad_()
        mismatch = surrogate.noisy_mismatch(batch.with_positions(positions), sigmas(1), aim)
        return torch.autograd.grad(mismatch.sum(), positions)[0].numpy()

    first, second = gradient(atoms), gradient(turned)
    expected = np.stack([-first[:, 1], first[:, 0], first[:, 2]], axis=1)
    assert np.abs(first).max() > 1e-3
    assert np.allclose(second, expected, atol=1e-3 * np.abs(first).max())


def test_gradient_is_the_finite_difference(trained):
    network_64 = copy.deepcopy(trained[0].network).double()
    surrogate = copy.copy(trained[0])
    object.__setattr__(surrogate, "network", network_64)
    batch = Batch.from_atoms([network(5), network(6)], ("C",), dtype=torch.float64)
    levels, aim = torch.tensor([0.05, 0.3], dtype=torch.float64), target()
    positions = batch.positions.clone().requires_grad_()
    total = surrogate.noisy_mismatch(batch.with_positions(positions), levels, aim).sum()
    (gradient,) = torch.autograd.grad(total, positions)
    direction = torch.randn(positions.shape, dtype=torch.float64, generator=torch.manual_seed(0))
    with torch.no_grad():
        up, down = (
            surrogate.noisy_mismatch(
                batch.with_positions(batch.positions + step * direction), levels, aim
            ).sum()
            for step in (1e-4, -1e-4)
        )
    assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 2e-4, rel=1e-4)


def test_noise_level_matters_within_its_range_only(trained):
    surrogate, aim, batch = trained[0], target(), trained[0].batch([network(5)])
    low, high = SIGMA_RANGE_A

    def value(sigma):
        return surrogate.noisy_mismatch(batch, sigmas(1, sigma), aim).item()

    assert value(low / 10) == value(low)
    assert value(high * 3) == value(high)
    assert value(low) != value(high)


def test_levels_are_log_uniform():
    levels = np.sort(random_sigmas(4000, torch.Generator().manual_seed(0)).numpy())
    low, high = np.log(SIGMA_RANGE_A)
    assert np.allclose(np.log(levels), low + (high - low) * (np.arange(4000) + 0.5) / 4000, atol=2e-3)


def test_a_surrogate_without_one_says_so(trained):
    bare = copy.deepcopy(trained[0].network)
    bare.noisy = None
    surrogate = copy.copy(trained[0])
    object.__setattr__(surrogate, "network", bare)
    with pytest.raises(UserError, match="noise_aware_steps"):
        surrogate.noisy_mismatch(surrogate.batch([network(5)]), sigmas(1), target())

import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.diffusion.toys import FirstAxis, Wavy

from nearedge_services.diffusion.guidance import SpectrumGuidance, guided, scales_per_structure
from nearedge_services.networks.graph import Batch


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    atoms_list = [Atoms(f"C{n}", positions=2 * rng.random((n, 3)), cell=[5] * 3, pbc=True) for n in (3, 5)]
    return Batch.from_atoms(atoms_list, ("C",), dtype=torch.float64)


def test_gradient_by_finite_difference(batch):
    gradient = SpectrumGuidance(Wavy(), 0.2, 1.0).gradient(batch, 0.3)
    step = 1e-6
    for atom, axis in [(0, 0), (2, 1), (4, 2), (7, 0)]:
        shift = torch.zeros_like(batch.positions)
        shift[atom, axis] = step
        up = Wavy().mismatch(batch.with_positions(batch.positions + shift), 0.2).sum()
        down = Wavy().mismatch(batch.with_positions(batch.positions - shift), 0.2).sum()
        assert gradient[atom, axis].item() == pytest.approx(((up - down) / (2 * step)).item(), rel=1e-5)


def test_gradient_works_inside_no_grad(batch):
    with torch.no_grad():
        assert SpectrumGuidance(Wavy(), 0.2, 1.0).gradient(batch, 0.3).abs().sum() > 0


def test_step_is_scale_sigma_squared_gradient(batch):
    guide = SpectrumGuidance(FirstAxis(), 3.0, 0.1)
    moved = guided(batch, 0.3, guide, torch.tensor([0.1, 0.1], dtype=torch.float64))
    expected = batch.positions - 0.1 * 0.3**2 * guide.gradient(batch, 0.3)
    torch.testing.assert_close(moved, expected)


def test_no_atom_moves_more_than_the_clip(batch):
    guide = SpectrumGuidance(FirstAxis(), 30.0, 1e4)
    moved = guided(batch, 0.2, guide, torch.tensor([1e4, 0.0], dtype=torch.float64))
    lengths = (moved - batch.positions).norm(dim=-1)
    torch.testing.assert_close(lengths[:3], torch.full((3,), 0.1, dtype=torch.float64))
    assert (moved[:3, 0] > batch.positions[:3, 0]).all()
    assert (lengths[3:] == 0).all()


@pytest.mark.parametrize("sigma", [0.03, 0.8])
def test_inactive_outside_its_noise_levels(batch, sigma):
    moved = guided(batch, sigma, SpectrumGuidance(FirstAxis(), 3.0, 1.0), torch.ones(2, dtype=torch.float64))
    assert torch.equal(moved, batch.positions)


def test_scales_per_structure():
    assert scales_per_structure(None, 2) == [0.0, 0.0]
    assert scales_per_structure(SpectrumGuidance(FirstAxis(), 0.0, 3), 2) == [3.0, 3.0]
    assert scales_per_structure(SpectrumGuidance(FirstAxis(), 0.0, [1, 2]), 2) == [1.0, 2.0]
    with pytest.raises(ValueError, match="3 structures"):
        scales_per_structure(SpectrumGuidance(FirstAxis(), 0.0, [1, 2]), 3)

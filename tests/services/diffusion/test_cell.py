import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.diffusion.toys import GaussianSites

from nearedge_db.errors import UserError
from nearedge_services.diffusion.cell import CellSteps
from nearedge_services.diffusion.guidance import ObjectiveGuidance
from nearedge_services.diffusion.objectives import (
    DensityObjective,
    PairDistributionObjective,
    WeightedObjectives,
)
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.diffusion.starts import empty_cells
from nearedge_services.structures.composition import density_g_cm3, parse_composition

FREE = SamplerSettings(cell_step=0.02)


@pytest.fixture(scope="module")
def prior():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Prior(("C",), PriorSettings(n_scalar=8, n_vector=4, n_radial=6, n_layers=1, cutoff_a=3.0))


def aim(density, scale=10.0):
    return ObjectiveGuidance(DensityObjective(density, ("C",)), scale)


def test_steps_settle_on_a_minimum_of_any_stiffness():
    for stiffness in (1e-3, 1.0, 1e4):
        steps = CellSteps(0.06, 10.0, torch.zeros(2, dtype=torch.float64))
        place = torch.zeros(2, dtype=torch.float64)
        for _ in range(100):
            place = place + steps.taken(stiffness * (torch.tensor([0.31, -0.17]) - place))
        expected = torch.tensor([0.31, -0.17]) * min(1, 100 * stiffness)
        assert (place - expected).abs().max() < (0.03 if stiffness < 1 else 1e-3)


def test_steps_and_the_whole_way_have_their_limits():
    steps = CellSteps(0.03, 1.5, torch.zeros(1, dtype=torch.float64))
    taken = [steps.taken(torch.tensor([1e9])).item() for _ in range(30)]
    assert max(taken) == pytest.approx(0.01)
    assert sum(taken) == pytest.approx(np.log(1.5) / 3)


@pytest.mark.parametrize("target", [1.8, 2.2, 3.0])
def test_the_density_is_reached(prior, target):
    cells = empty_cells(parse_composition("C16"), [2.0, 2.6])
    free = sample(prior, cells, FREE, [0, 1], aim(target))
    assert [density_g_cm3(atoms) for atoms in free] == pytest.approx([target] * 2, rel=0.01)
    for atoms in free:
        fractions = atoms.get_scaled_positions(wrap=False)
        assert fractions.min() >= -1e-6
        assert fractions.max() < 1 + 1e-6


def test_a_structure_without_strength_keeps_its_cell(prior):
    cells = empty_cells(parse_composition("C16"), [2.0, 2.0])
    kept, moved = sample(prior, cells, FREE, [0, 0], aim(3.0, [0.0, 10.0]))
    np.testing.assert_allclose(kept.cell.array, cells[0].cell.array, rtol=1e-6)
    alone = sample(prior, cells[:1], SamplerSettings(), [0])[0]
    np.testing.assert_allclose(kept.positions, alone.positions, atol=1e-4)
    assert density_g_cm3(moved) == pytest.approx(3.0, rel=0.01)


def test_the_cell_stays_without_leave_to_change(prior):
    cells = empty_cells(parse_composition("C16"), [2.0])
    r = np.linspace(1, 3, 21)
    both = WeightedObjectives([(DensityObjective(3.0, ("C",)), 1.0), (PairDistributionObjective(r, r), 1.0)])
    fixed = sample(prior, cells, SamplerSettings(steps=10), [0], ObjectiveGuidance(both, 1.0))[0]
    np.testing.assert_array_equal(fixed.cell.array, cells[0].cell.array)
    with pytest.raises(UserError, match="does not depend on the positions"):
        sample(prior, cells, SamplerSettings(), [0], aim(3.0))


def test_the_cell_cannot_change_around_fixed_atoms(prior):
    cell = empty_cells(parse_composition("C16"), [2.0])[0]
    cell.arrays["fixed"] = np.arange(16) < 3
    with pytest.raises(UserError, match="fixed atoms"):
        sample(prior, [cell], FREE, [0], aim(3.0))


def test_two_weighted_targets_meet_between_them(prior):
    cells = empty_cells(parse_composition("C16"), [2.4])
    for weight in (1.0, 3.0):
        parts = [(DensityObjective(2.0, ("C",)), 1.0), (DensityObjective(2.8, ("C",)), weight)]
        structure = sample(prior, cells, FREE, [0], ObjectiveGuidance(WeightedObjectives(parts), 10.0))[0]
        expected = (2.0 + weight * 2.8) / (1 + weight)
        assert density_g_cm3(structure) == pytest.approx(expected, rel=0.01)


def test_noise_keeps_its_size_while_the_cell_changes():
    """Sites are fixed in space, so that the exact spread is known whatever the cell does."""
    denoiser = GaussianSites([0.0, 0.0, 0.0], 0.2)
    cell = Atoms("C800", positions=np.zeros((800, 3)), cell=[30.0] * 3, pbc=True)
    settings = SamplerSettings(
        start="uniform",
        steps=500,
        sigma_max=0.9,
        churn=0.04,
        churn_noise=1.0,
        cold_noise=1.0,
        rest=1.0,
        sigma_min=0.005,
    )
    free = settings.model_copy(update={"cell_step": 0.002})
    density = density_g_cm3(cell)
    guide = ObjectiveGuidance(DensityObjective(1.3 * density, ("C",), density), 10.0)
    structure = sample(denoiser, [cell], free, [0], guide)[0]
    assert density_g_cm3(structure) == pytest.approx(1.3 * density, rel=0.01)
    deviations = structure.positions - structure.cell.lengths() * np.round(structure.get_scaled_positions())
    assert deviations.std() == pytest.approx(0.2, rel=0.06)

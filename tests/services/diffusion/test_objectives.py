import numpy as np
import pytest
import torch
from ase.calculators.lj import LennardJones
from tests.services.diffusion.slopes import batch_of, networks, slope_by_position, slope_by_strain, turned

from nearedge_db.errors import UserError
from nearedge_services.diffusion.guidance import gradients
from nearedge_services.diffusion.objectives import (
    DensityObjective,
    EnergyObjective,
    PairDistributionObjective,
    SpectrumObjective,
    StructureFactorObjective,
    WeightedObjectives,
    elements_of,
)
from nearedge_services.networks.graph import Batch, find_neighbours, mean_by_structure
from nearedge_services.networks.painn import PaiNN, PaiNNConfig
from nearedge_services.structures.composition import density_g_cm3

ELEMENTS = ("C", "Si")
R = np.linspace(1.0, 5.0, 41)
Q = np.linspace(1.0, 12.0, 23)


def lennard_jones(structures):
    """Energies (eV) and forces (eV/Å) of a smooth, cut off pair potential."""
    found = []
    for structure in structures:
        atoms = structure.copy()
        atoms.calc = LennardJones(sigma=1.3, epsilon=0.4, rc=4.0, smooth=True)
        found.append((atoms.get_potential_energy(), atoms.get_forces()))
    return found


class NetworkMismatch:
    """½ N times the square of one number that an equivariant network gives; elements as a surrogate's."""

    elements = ELEMENTS

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            config = PaiNNConfig(2, n_scalar=8, n_vector=4, n_radial=6, n_layers=2, cutoff=3.0)
            self.network = PaiNN(config).double()

    def mismatch(self, batch, target):
        scalars, _ = self.network(batch, find_neighbours(batch, 3.0))
        return 0.5 * batch.counts * (mean_by_structure(scalars[:, 0], batch) - target).square()


def objectives():
    g, s = 1 + np.sin(R), 1 + 0.2 * np.cos(Q)
    x_ray = {"C": 6.0, "Si": 14.0}
    spectrum, density = SpectrumObjective(NetworkMismatch(), 0.7), DensityObjective(2.0, ELEMENTS)
    return {
        "spectrum": spectrum,
        "density": density,
        "pair distribution": PairDistributionObjective(R, g),
        "partial": PairDistributionObjective(R, g, 0.15, ("C", "Si"), ELEMENTS),
        "structure factor": StructureFactorObjective(Q, s, 6.0),
        "x-ray": StructureFactorObjective(Q, s, 6.0, weights=x_ray, elements=ELEMENTS),
        "energy": EnergyObjective(lennard_jones, ELEMENTS, 5000.0),
        "several": WeightedObjectives([(density, 0.3), (PairDistributionObjective(R, g), 2.0)]),
    }


NAMES = list(objectives())


@pytest.fixture
def batch():
    return batch_of(networks(ELEMENTS), ELEMENTS)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_differences(name, batch):
    objective = objectives()[name]
    by_position, by_strain = gradients(objective.value, batch, variable_cell=True)
    scale = by_position.abs().max().item()
    for atom, axis in [(0, 0), (3, 1), (8, 2), (14, 0)]:
        expected = slope_by_position(objective.value, batch, atom, axis)
        assert by_position[atom, axis].item() == pytest.approx(expected, rel=1e-4, abs=1e-4 * scale + 1e-9)
    for structure in (0, 1):
        expected = slope_by_strain(objective.value, batch, structure)
        assert by_strain[structure].item() == pytest.approx(expected, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_values_do_not_depend_on_the_view_and_gradients_turn(name, batch):
    objective = objectives()[name]
    other, turn = turned(batch)
    torch.testing.assert_close(objective.value(other), objective.value(batch), rtol=1e-6, atol=1e-9)
    here, here_strain = gradients(objective.value, batch, variable_cell=True)
    there, there_strain = gradients(objective.value, other, variable_cell=True)
    torch.testing.assert_close(there, here @ turn.T, rtol=1e-5, atol=1e-6 * float(here.abs().max() + 1e-3))
    torch.testing.assert_close(there_strain, here_strain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_eight_cells_cost_eight_times_as_much(name):
    objective = objectives()[name]
    cell = networks(ELEMENTS, counts=(8,))[0]
    one, eight = batch_of([cell], ELEMENTS), batch_of([cell * 2], ELEMENTS)
    assert objective.value(eight).item() == pytest.approx(8 * objective.value(one).item(), rel=1e-6)
    small, small_strain = gradients(objective.value, one, variable_cell=True)
    large, large_strain = gradients(objective.value, eight, variable_cell=True)
    torch.testing.assert_close(large[:8], small, rtol=1e-5, atol=1e-6 * float(small.abs().max() + 1e-3))
    assert large_strain.item() == pytest.approx(8 * small_strain.item(), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_structures_of_a_batch_do_not_see_each_other(name, batch):
    objective = objectives()[name]
    alone = [objective.value(batch_of([atoms], ELEMENTS)).item() for atoms in networks(ELEMENTS)]
    assert objective.value(batch).tolist() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("name", ["density", "pair distribution", "structure factor", "energy"])
def test_single_precision_is_enough(name, batch):
    objective = objectives()[name]
    frames = networks(ELEMENTS)
    single = Batch.from_atoms(frames, ELEMENTS)
    assert objective.value(single).tolist() == pytest.approx(objective.value(batch).tolist(), rel=1e-3)
    by_position, by_strain = gradients(objective.value, single, variable_cell=True)
    exact, exact_strain = gradients(objective.value, batch, variable_cell=True)
    torch.testing.assert_close(by_position.double(), exact, rtol=0.01, atol=1e-3 * float(exact.abs().max()))
    torch.testing.assert_close(by_strain.double(), exact_strain, rtol=0.02, atol=1e-2)
    assert by_position.dtype == torch.float32


def test_density_is_that_of_the_atoms(batch):
    densities = DensityObjective(2.0, ELEMENTS).densities_g_cm3(batch)
    assert densities.tolist() == pytest.approx([density_g_cm3(atoms) for atoms in networks(ELEMENTS)])
    off = DensityObjective(densities[0].item() + 0.5, ELEMENTS, 0.5)
    assert off.value(batch)[0].item() == pytest.approx(0.5 * 6)


def test_energy_counts_in_temperatures(batch):
    energies = [energy for energy, _ in lennard_jones(networks(ELEMENTS))]
    values = EnergyObjective(lennard_jones, ELEMENTS, 1000.0).value(batch)
    assert values.tolist() == pytest.approx([energy / 0.0861733 for energy in energies], rel=1e-5)


def test_forces_may_come_from_automatic_gradients(batch):
    def springs(structures):
        found = []
        for atoms in structures:
            positions = torch.tensor(atoms.positions, requires_grad=True)
            energy = (positions**2).sum()
            (gradient,) = torch.autograd.grad(energy, positions)
            found.append((energy.item(), -gradient.numpy()))
        return found

    with torch.no_grad():
        gradient, _ = gradients(EnergyObjective(springs, ELEMENTS, 11604.518).value, batch, False)
    torch.testing.assert_close(gradient, 2 * batch.positions, rtol=1e-6, atol=1e-6)


def test_energy_at_a_fixed_cell_costs_one_evaluation(batch):
    calls = []

    def counted(structures):
        calls.append(len(structures))
        return lennard_jones(structures)

    gradients(EnergyObjective(counted, ELEMENTS).value, batch, variable_cell=False)
    assert calls == [2]


def test_elements():
    assert elements_of(SpectrumObjective(NetworkMismatch(), 0.7)) == ELEMENTS
    assert elements_of(PairDistributionObjective(R, R)) is None
    parts = [(DensityObjective(2.0, ELEMENTS), 1.0), (PairDistributionObjective(R, R), 1.0)]
    assert elements_of(WeightedObjectives(parts)) == ELEMENTS
    with pytest.raises(UserError, match="different elements"):
        WeightedObjectives([*parts, (DensityObjective(2.0, ("Si",)), 1.0)])


def test_densities_must_be_positive():
    with pytest.raises(UserError, match="positive"):
        DensityObjective(0.0, ELEMENTS)

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.calculators.morse import MorsePotential
from tests.services.potential.toys import crystal, labelled

from nearedge_services.potential import NonFiniteForces
from nearedge_services.potential.relax import RelaxationStatus, relax, relax_batch


class Spring(Calculator):
    """Ties every atom to a point: E = ½ k Σ|x − x0|²."""

    implemented_properties = ("energy", "forces")

    def __init__(self, anchor, stiffness):
        super().__init__()
        self.anchor, self.stiffness = anchor, stiffness

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.anchor
        self.results = {"energy": 0.5 * self.stiffness * (away**2).sum(), "forces": -self.stiffness * away}


class Broken(Spring):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["forces"][0, 0] = np.nan


def test_finds_the_minimum_of_a_known_potential():
    atoms = labelled(3)
    result = relax(atoms, MorsePotential(epsilon=1.5, r0=1.8, rho0=3.0, rcut1=2.6, rcut2=3.4), 200, 0.02)
    assert result.converged
    assert result.status is RelaxationStatus.CONVERGED
    assert result.max_force_ev_per_a <= 0.02
    assert result.rms_displacement_a > 0.01
    assert result.atoms.calc is None


def test_lowers_the_energy_with_the_learned_potential(potential):
    atoms = labelled(3)
    before = potential.predict([atoms])[0]
    start = atoms.positions.copy()
    result = relax(atoms, potential.calculator(), steps=30)
    assert result.energy_ev < before.energy_ev - 0.05
    np.testing.assert_array_equal(atoms.positions, start)


def test_takes_the_sum_of_two_calculators(potential):
    atoms = labelled(3)
    anchor = atoms.positions + 0.1
    both = SumCalculator([potential.calculator(1), Spring(anchor, 50.0)])
    biased = relax(atoms, both, steps=60).atoms
    alone = relax(atoms, potential.calculator(1), steps=60).atoms
    assert np.abs(biased.positions - anchor).mean() < 0.5 * np.abs(alone.positions - anchor).mean()


def test_steps_are_capped_and_counted():
    atoms = crystal()
    far = Spring(atoms.positions + np.array([30.0, 0, 0]), 100.0)
    result = relax(atoms, far, steps=4, max_step_a=0.05, max_displacement_a=5.0)
    assert result.status is RelaxationStatus.OUT_OF_STEPS
    assert result.steps == 4
    assert np.abs(result.atoms.positions - atoms.positions).max() <= 4 * 0.05 + 1e-9


def test_stops_when_atoms_fly_away():
    atoms = crystal()
    result = relax(
        atoms, Spring(atoms.positions + np.array([30.0, 0, 0]), 100.0), steps=200, max_displacement_a=1.0
    )
    assert result.status is RelaxationStatus.EXPLODED
    assert np.linalg.norm(result.atoms.positions - atoms.positions, axis=1).max() <= 1.0
    assert not result.converged


def test_non_finite_forces_are_an_error():
    with pytest.raises(NonFiniteForces):
        relax(crystal(), Broken(np.zeros(3), 1.0))


def test_zero_steps_only_evaluates():
    atoms = labelled(1)
    result = relax(atoms, Spring(atoms.positions + 1.0, 1.0), steps=0)
    assert result.steps == 0
    assert result.rms_displacement_a == 0


def test_batch_gives_what_one_by_one_gives(potential):
    structures = [labelled(seed) for seed in range(3)]
    together = relax_batch(structures, potential, steps=10)
    for atoms, result in zip(structures, together, strict=True):
        alone = relax(atoms, potential.calculator(), steps=10)
        assert result.status is alone.status
        np.testing.assert_allclose(result.atoms.positions, alone.atoms.positions, atol=1e-3)

"""Refinement on energies that are known exactly, and once on a small learned potential."""

from itertools import product

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms
from tests.services.potential.toys import crystal, labelled

from nearedge_services.diffusion.starts import empty_cells
from nearedge_services.inference.library import read_library
from nearedge_services.potential.network import build_network
from nearedge_services.potential.potential import Potential
from nearedge_services.potential.settings import Architecture
from nearedge_services.refinement import (
    Anneal,
    RefinementSettings,
    RefinementStatus,
    refine,
    refine_with,
    spectral_bias,
)
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.compact import read_networks
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.material import packing_fraction
from nearedge_services.surrogate.surrogate import Surrogate
from nearedge_services.weights import TRAINING_NETWORKS_FILE, shipped, shipped_library

SHORT = RefinementSettings(anneal=Anneal(steps=40, start_k=600.0), final_steps=200, final_fmax_ev_per_a=0.02)
RELAX = RefinementSettings(anneal=None, final_steps=300, final_fmax_ev_per_a=0.002)


IMAGES = np.array(list(product(range(-2, 3), repeat=3)))


def morse(structures):
    """Morse potential over 125 images of every pair: ε = 1.5 eV, r0 = 1.8 Å, width 0.6 Å."""
    results = []
    for atoms in structures:
        x = atoms.positions
        away = x[:, None, None] - x[None, :, None] - IMAGES @ atoms.cell.array
        r = np.linalg.norm(away, axis=-1)
        r[r < 1e-9] = np.inf
        decay = np.exp(-(r - 1.8) / 0.6)
        slope = 1.5 * 2 * (decay - decay**2) / 0.6
        energy = 0.5 * 1.5 * (decay**2 - 2 * decay).sum()
        results.append((float(energy), -(away / r[..., None] * slope[..., None]).sum((1, 2))))
    return results


def springs(anchors, stiffness):
    """Ties every atom to a point, E = ½ k Σ|x − x0|²; structures are told apart by their number of atoms."""

    def evaluate(structures):
        away = [atoms.positions - anchors[len(atoms)] for atoms in structures]
        return [(0.5 * stiffness * float((d**2).sum()), -stiffness * d) for d in away]

    return evaluate


def test_a_structure_comes_to_rest_at_a_lower_energy():
    atoms = labelled(3)
    before = atoms.positions.copy()
    (one,) = refine_with([atoms], morse, SHORT, seeds=[0])
    assert one.status is RefinementStatus.CONVERGED
    assert [moment.stage for moment in one.history] == ["start", "relaxed", "annealed", "final"]
    assert one.energy_ev == pytest.approx(morse([one.atoms])[0][0], abs=1e-3)
    assert one.energy_ev < one.history[0].energy_ev - 0.1
    assert np.abs(morse([one.atoms])[0][1]).max() < 0.03
    assert 0 < one.rms_displacement_a <= one.max_displacement_a
    np.testing.assert_array_equal(atoms.positions, before)


def test_the_anneal_leaves_a_trap_that_relaxation_does_not():
    """A double well in x, 0.1 eV lower behind a barrier of some 0.02 eV."""

    def wells(structures):
        results = []
        for atoms in structures:
            x = atoms.positions[:, 0] - 5.0
            energy = 0.06 * (x**2 - 0.6**2) ** 2 / 0.6**4 - 0.08 * x
            slope = 0.06 * 4 * x * (x**2 - 0.6**2) / 0.6**4 - 0.08
            results.append((float(energy.sum()), np.stack([-slope, 0 * x, 0 * x], axis=1)))
        return results

    trapped = [Atoms("C", positions=[[4.45, 5, 5]], cell=[10] * 3, pbc=True) for _ in range(12)]
    held = [atoms + Atoms("C", positions=[[5.7, 5, 5]]) for atoms in trapped]
    for atoms in held:
        atoms.set_array("fixed", np.array([False, True]))
    seeds = list(range(12))
    still = refine_with(held, wells, RELAX, seeds=seeds)
    hot = RefinementSettings(anneal=Anneal(steps=300, start_k=1500.0, thin_share=1.0), final_steps=300)
    annealed = refine_with(held, wells, hot, seeds=seeds)
    assert all(one.atoms.positions[0, 0] < 5 for one in still)
    assert sum(one.atoms.positions[0, 0] > 5 for one in annealed) >= 6


def test_the_bias_shares_in_the_outcome():
    atoms = crystal()
    goal = {8: atoms.positions + np.array([0.3, 0, 0])}
    tied, pulled = springs({8: atoms.positions}, 3.0), springs(goal, 1.0)
    (free,) = refine_with([atoms], tied, RELAX, seeds=[0])
    (biased,) = refine_with([atoms], tied, RELAX, bias=pulled, seeds=[0])
    assert free.bias_ev == 0
    assert free.max_displacement_a == pytest.approx(0, abs=1e-6)
    assert biased.history[0].bias_ev == pytest.approx(0.5 * 8 * 0.3**2)
    centre = atoms.positions.mean(axis=0)
    stretched = {8: centre + 1.1 * (atoms.positions - centre)}
    (opened,) = refine_with([atoms], tied, RELAX, bias=springs(stretched, 1.0), seeds=[0])
    before = opened.history[0].bias_ev  # a quarter of the way to the goal is where the springs balance
    assert opened.bias_ev == pytest.approx(0.75**2 * before, rel=0.03)
    assert opened.energy_ev == pytest.approx(3 * 0.25**2 * before, rel=0.1)


def test_dynamics_with_a_bias_have_their_own_steps():
    atoms = crystal()
    tied = springs({8: atoms.positions}, 3.0)
    pulled = springs({8: atoms.positions + np.array([0.4, 0, 0])}, 1.0)
    calls = []

    def counted(structures):
        calls.append(len(structures))
        return pulled(structures)

    cold = Anneal(steps=7, biased_steps=600, start_k=300.0, end_k=0.1)
    assert cold.with_bias().thermostat.timestep_fs == cold.biased_timestep_fs
    settings = RefinementSettings(anneal=cold, first_steps=0, final_steps=0)
    (one,) = refine_with([atoms], tied, settings, bias=counted, seeds=[0])
    assert one.history[2].bias_ev == pytest.approx(0.5 * 8 * 0.3**2, rel=0.05)
    assert len(calls) >= 600


def test_the_shipped_models_anneal_towards_a_spectrum_without_heating():
    """The spectral bias is as stiff as bonds: too long a timestep explodes within some fifty steps."""
    file = shipped_library("C")
    networks, library = read_networks(file.with_name(TRAINING_NETWORKS_FILE)), read_library(file)
    network = next(atoms for atoms in networks if packing_fraction(atoms) > Anneal().dense_packing)
    densest = library.spectra[library.densities_g_cm3.argmax()]
    target = Target.from_spectrum(Spectrum(library.grid.energies, densest), library.grid, "C")
    settings = RefinementSettings(anneal=Anneal(biased_steps=120), first_steps=20, final_steps=0)
    potential = Potential.load(shipped("potential", "C"))
    bias = spectral_bias(Surrogate.load(shipped("surrogate", "C")), target, settings)
    (one,) = refine([network], potential, settings, bias=bias, seeds=[0])
    assert not one.failed
    relaxed, annealed = one.history[1], one.history[2]
    kinetic_ev = 1.5 * units.kB * settings.anneal.end_k  # of an atom: as much again is stored in its bonds
    gained = annealed.energy_ev + annealed.bias_ev - relaxed.energy_ev - relaxed.bias_ev
    assert gained / len(network) < 2 * kinetic_ev


def test_a_drift_of_the_whole_is_taken_back():
    atoms = crystal()
    (one,) = refine_with(
        [atoms], springs({8: atoms.positions + np.array([0.3, 0.1, 0])}, 1.0), RELAX, seeds=[0]
    )
    assert one.rms_displacement_a == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("how", ["array", "constraint"])
def test_fixed_atoms_stay_exactly(how):
    atoms = labelled(5)
    atoms.positions[0] -= atoms.cell.array.sum(axis=0)  # outside the cell: not even wrapped
    if how == "array":
        atoms.set_array("fixed", np.arange(8) < 3)
    else:
        atoms.set_constraint(FixAtoms([0, 1, 2]))
    (one,) = refine_with([atoms], morse, SHORT, seeds=[1])
    assert not one.failed
    np.testing.assert_array_equal(one.atoms.positions[:3], atoms.positions[:3])
    assert one.max_displacement_a > 0.02


def test_a_structure_does_not_depend_on_those_beside_it():
    structures = [labelled(seed) for seed in range(3)]
    together = refine_with(structures, morse, SHORT, seeds=[7, 8, 9])
    (alone,) = refine_with(structures[1:2], morse, SHORT, seeds=[8])
    (other,) = refine_with(structures[1:2], morse, SHORT, seeds=[80])
    np.testing.assert_allclose(together[1].atoms.positions, alone.atoms.positions, atol=1e-8)
    assert alone.history[2] != other.history[2]
    few = SHORT.model_copy(update={"atoms_at_once": 8})
    apart = refine_with(structures, morse, few, seeds=[7, 8, 9])
    np.testing.assert_allclose(apart[2].atoms.positions, together[2].atoms.positions, atol=1e-8)


def test_a_broken_structure_is_reported_and_the_others_go_on():
    good, bad = labelled(1), labelled(2)
    bad.numbers[:] = 14

    def spoilt(structures):
        return [
            (float("nan"), forces) if atoms.numbers[0] == 14 else (energy, forces)
            for atoms, (energy, forces) in zip(structures, morse(structures), strict=True)
        ]

    first, broken, last = refine_with([good, bad, good], spoilt, SHORT, seeds=[0, 1, 0])
    assert broken.failed
    assert broken.status is RefinementStatus.NOT_FINITE
    assert "not finite" in broken.reason
    assert broken.history == ()
    assert np.isnan(broken.energy_ev)
    assert not first.failed
    np.testing.assert_allclose(first.atoms.positions, last.atoms.positions)


def test_atoms_that_fly_apart_are_reported():
    atoms = crystal()
    away = springs({8: atoms.positions + np.array([40.0, 0, 0])}, 200.0)
    (relaxed,) = refine_with([atoms], away, RELAX, seeds=[0])
    assert relaxed.status is RefinementStatus.EXPLODED
    assert "while relaxing" in relaxed.reason
    stiff = springs({8: atoms.positions}, 5e4)  # far too stiff for the time step
    hot = RefinementSettings(first_steps=0, anneal=Anneal(steps=300), final_steps=0)
    (exploded,) = refine_with([atoms], stiff, hot, seeds=[0])
    assert exploded.status is RefinementStatus.EXPLODED
    assert "while annealing" in exploded.reason


def test_with_a_learned_potential():
    architecture = Architecture(
        elements=(6,), isolated_energies_ev=(-50.0,), scale_ev=0.3, message_norm=3.0, cutoff_a=3.0,
        channels=4, max_ell=1, correlation=1, interactions=1, radial_functions=4, radial_layers=(8,),
        readout_channels=4, core_repulsion=True,
    )  # fmt: skip
    potential = Potential(architecture, [build_network(architecture, seed=0)])
    structures = [labelled(1), labelled(2)]
    settings = RefinementSettings(first_steps=3, anneal=Anneal(steps=3), final_steps=5)
    refined = refine(structures, potential, settings, seeds=[0, 1])
    for one, atoms in zip(refined, structures, strict=True):
        assert not one.failed
        assert one.history[0].energy_ev == pytest.approx(potential.predict([atoms])[0].energy_ev, abs=1e-4)
        assert one.energy_ev == pytest.approx(potential.predict([one.atoms])[0].energy_ev, abs=1e-3)


def test_settings_and_seeds_are_checked():
    with pytest.raises(ValueError, match="1 seeds for 2"):
        refine_with([crystal(), crystal()], morse, SHORT, seeds=[0])
    with pytest.raises(ValueError, match="extra"):
        RefinementSettings(stepps=3)
    with pytest.raises(ValueError, match="below dense_packing"):
        Anneal(thin_packing=0.3)
    assert refine_with([], morse, SHORT, seeds=[]) == []


def test_thin_structures_are_annealed_more_gently():
    anneal = Anneal(steps=5, start_k=1000.0, end_k=100.0, thin_share=0.4, thin_packing=0.1, dense_packing=0.2)
    temperatures = anneal.temperatures_k(np.array([0.05, 0.1, 0.15, 0.2, 0.3]))
    assert temperatures.shape == (5, 5)
    between = (400.0 * 1000.0) ** 0.5
    assert temperatures[0].tolist() == pytest.approx([400.0, 400.0, between, 1000.0, 1000.0])
    assert temperatures[-1].tolist() == pytest.approx([40.0, 40.0, between / 10, 100.0, 100.0])


def test_carbon_of_the_least_density_is_hardly_annealed():
    """1.6 g/cm³ is thin and 2.5 g/cm³ is dense; a share above one would anneal thin structures hotter."""
    cells = empty_cells(parse_composition("C64"), [1.6, 2.5])
    starts_k = Anneal().temperatures_k(np.array([packing_fraction(cell) for cell in cells]))[0]
    assert starts_k == pytest.approx([400.0, 4000.0], rel=0.02)
    with pytest.raises(ValueError, match="thin_share"):
        Anneal(thin_share=1.5)


def test_the_anneal_of_a_structure_follows_its_own_packing():
    """The same springs and seed in a thin and a dense cell: displacements as the roots of the temperatures."""
    thin, dense = crystal(), crystal()
    thin.set_cell(3 * thin.cell.array)
    dense.set_cell(0.7 * dense.cell.array)
    assert packing_fraction(thin) < Anneal().thin_packing < Anneal().dense_packing < packing_fraction(dense)
    evaluate = springs({8: dense.positions}, 3.0)
    anneal = Anneal(steps=50, start_k=400.0, end_k=400.0, thin_share=0.25)
    ends = refine_with(
        [thin, dense],
        evaluate,
        RefinementSettings(anneal=anneal, first_steps=0, final_steps=0),
        seeds=[3, 3],
    )
    moved = [one.rms_displacement_a for one in ends]
    assert moved[0] == pytest.approx(0.5 * moved[1], rel=1e-3)

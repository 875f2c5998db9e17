"""Symmetries, gradients, normalisation and the files of a trained surrogate."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.surrogate.synthetic import GRID, network, target

from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.surrogate.bias import SpectralBias
from nearedge_services.surrogate.surrogate import CHUNK_ATOMS, Surrogate


def cell_mean(surrogate: Surrogate, atoms: Atoms) -> np.ndarray:
    return surrogate.member_cell_means([atoms], "C")[:, 0]


def permuted(atoms: Atoms) -> Atoms:
    return atoms[np.random.default_rng(1).permutation(len(atoms))]


def rotated(atoms: Atoms) -> Atoms:
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    return turned


def translated(atoms: Atoms) -> Atoms:
    moved = atoms.copy()
    moved.positions += [0.7, -5.1, 2.2]
    moved.wrap()
    return moved


def supercell(atoms: Atoms) -> Atoms:
    return atoms * (1, 2, 1)


@pytest.mark.parametrize("change", [permuted, rotated, translated, supercell])
def test_cell_mean_is_invariant(trained, change):
    surrogate, atoms = trained[0], network(5)
    assert np.allclose(cell_mean(surrogate, change(atoms)), cell_mean(surrogate, atoms), atol=2e-5)


def test_cell_mean_depends_on_the_structure(trained):
    assert np.abs(cell_mean(trained[0], network(5)) - cell_mean(trained[0], network(6))).max() > 1e-3


def test_cell_means_have_unit_area_and_no_negative_intensity(trained):
    surrogate = trained[0]
    means = surrogate.member_cell_means([network(5), network(6)], "C")
    assert means.shape == (2, 2, GRID.size)
    assert np.allclose(means @ GRID.weights, 1, atol=1e-5)
    assert means.min() >= 0


def test_chunks_give_the_same_as_one_batch(trained):
    surrogate = trained[0]
    atoms = network(5)
    many = [atoms] * (CHUNK_ATOMS // len(atoms) + 3)
    assert np.allclose(
        surrogate.member_cell_means(many, "C"), cell_mean(surrogate, atoms)[:, None], atol=2e-5
    )
    spectra = surrogate.atom_spectra(many)
    assert len(spectra) == len(many)
    assert spectra[-1].shape == (2, len(atoms), GRID.size)


def test_mismatch_is_half_n_times_the_squared_relative_distance(trained):
    surrogate, aim, atoms = trained[0], target(), network(5)
    batch = surrogate.batch([atoms])
    value = surrogate.mismatch(batch, aim, members=1).item()
    distance = aim.distance(cell_mean(surrogate, atoms)[0])
    assert value == pytest.approx(0.5 * len(atoms) * (20.0 * float(distance)) ** 2, rel=1e-3)


def test_mismatch_over_a_window_uses_its_width(trained):
    surrogate, atoms = trained[0], network(5)
    aim = Target.from_spectrum(Spectrum(GRID.energies, target().intensity), GRID, "C", window_ev=(2.0, 12.0))
    value = surrogate.mismatch(surrogate.batch([atoms]), aim, members=1).item()
    distance = aim.distance(cell_mean(surrogate, atoms)[0])
    assert value == pytest.approx(0.5 * len(atoms) * (10.0 * float(distance)) ** 2, rel=1e-3)


def test_bias_forces_are_the_gradient_of_its_energy(trained):
    atoms = network(5)
    surrogate = trained[0]
    atoms.calc = SpectralBias(surrogate, target(), weight_ev=50.0)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.1
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        energies = []
        for step in (-0.01, 0.01):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            moved.calc = atoms.calc
            energies.append(moved.get_potential_energy())
        assert -(energies[1] - energies[0]) / 0.02 == pytest.approx(
            forces[atom, axis], abs=0.03 * np.abs(forces).max()
        )


def test_bias_steers_towards_the_target(trained):
    surrogate, aim, atoms = trained[0], target(), network(5)
    atoms.calc = SpectralBias(surrogate, aim, weight_ev=1.0)
    before, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.positions += 0.02 * forces / np.linalg.norm(forces, axis=1).max()
    assert atoms.get_potential_energy() < before


def test_gradient_leaves_other_structures_alone(trained):
    surrogate = trained[0]
    batch = surrogate.batch([network(5), network(6)])
    positions = batch.positions.requires_grad_()
    mismatch = surrogate.mismatch(batch.with_positions(positions), target())
    (gradient,) = torch.autograd.grad(mismatch[0], positions)
    assert gradient[batch.structure == 0].abs().max() > 0
    assert gradient[batch.structure == 1].abs().max() == 0


def test_predictions_are_calibrated_numbers(trained):
    surrogate, aim = trained[0], target()
    first, second = surrogate.predict([network(5), network(6)], aim)
    assert first.distance != second.distance
    assert first.distance_std > 0
    assert first.cell_mean.shape == first.cell_mean_std.shape == (GRID.size,)
    assert (first.cell_mean_std > 0).all()
    assert first.distance >= float(aim.distance(first.cell_mean)) - 1e-12
    assert surrogate.predict([], aim) == []


def test_save_and_load_give_the_same_predictions(trained, tmp_path):
    surrogate, aim, atoms = trained[0], target(), network(5)
    surrogate.save(tmp_path)
    again = Surrogate.load(tmp_path)
    assert again.predict([atoms], aim)[0].distance == surrogate.predict([atoms], aim)[0].distance
    assert (again.settings, again.elements, again.absorbers, again.grid, again.calibration) == (
        surrogate.settings,
        surrogate.elements,
        surrogate.absorbers,
        surrogate.grid,
        surrogate.calibration,
    )


def test_damaged_folders_are_refused(trained, tmp_path):
    with pytest.raises(UserError):
        Surrogate.load(tmp_path / "absent")
    trained[0].save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"kind": "prior"}, {"settings": {"nonsense": 1}}, {"calibration": None}):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError):
            Surrogate.load(tmp_path)


def test_what_it_does_not_know_is_refused(trained):
    surrogate = trained[0]
    silicon = Atoms("Si", cell=[3, 3, 3], pbc=True)
    with pytest.raises(UserError, match="element"):
        surrogate.predict([silicon], target())
    with pytest.raises(UserError, match="absorber"):
        surrogate.predict([network(5)], target(absorber="Si"))
    other = EnergyGrid(0.0, 20.0, 0.25)
    aim = Target.from_spectrum(Spectrum(other.energies, np.ones(other.size)), other, "C")
    with pytest.raises(UserError, match="grid"):
        surrogate.predict([network(5)], aim)
    with pytest.raises(UserError, match="grid"):
        SpectralBias(surrogate, aim, weight_ev=1.0)

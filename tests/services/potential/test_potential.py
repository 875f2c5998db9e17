import json

import numpy as np
import pytest
from ase import Atoms
from tests.services.potential.toys import crystal, labelled, rotation

from nearedge_db.errors import UserError
from nearedge_services.potential import NonFiniteForces, Potential
from nearedge_services.potential.network import build_network
from nearedge_services.potential.settings import Architecture

ARCHITECTURE = Architecture(
    elements=(6, 14),
    isolated_energies_ev=(-50.0, -40.0),
    scale_ev=1.0,
    message_norm=4.0,
    cutoff_a=3.4,
    channels=4,
    max_ell=2,
    correlation=2,
    interactions=2,
    radial_functions=6,
    radial_layers=(16,),
    readout_channels=8,
    core_repulsion=True,
)


@pytest.fixture(scope="module")
def alloy():
    return Potential(ARCHITECTURE, [build_network(ARCHITECTURE, seed) for seed in (0, 1)])


@pytest.fixture(scope="module")
def vectors():
    """Untrained networks whose atoms tell each other vectors, too."""
    architecture = ARCHITECTURE.model_copy(update={"message_ell": 1})
    return Potential(architecture, [build_network(architecture, seed) for seed in (0, 1)])


@pytest.fixture(params=["potential", "vectors"])
def any_potential(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("members", [None, 1])
def test_forces_are_the_gradient_of_the_energy(any_potential, members):
    potential = any_potential
    calculator = potential.calculator(members)
    atoms = labelled(7)
    atoms.calc = calculator
    forces = atoms.get_forces()
    for atom, axis in [(0, 0), (3, 1), (6, 2)]:
        step = 5e-3
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = calculator
            energies.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=0.02)
    assert np.abs(forces).max() > 0.1


@pytest.mark.parametrize("handedness", [1, -1])
def test_invariant_under_permutation_rotation_reflection_and_translation(any_potential, handedness):
    potential = any_potential
    atoms = labelled(11)
    turn, order = handedness * rotation(0), np.random.default_rng(0).permutation(len(atoms))
    moved = Atoms(
        atoms.numbers[order],
        (atoms.positions @ turn.T + [0.3, 5.0, -2.0])[order],
        cell=atoms.cell @ turn.T,
        pbc=True,
    )
    before, after = potential.predict([atoms, moved])
    assert after.energy_ev == pytest.approx(before.energy_ev, abs=1e-4)
    np.testing.assert_allclose(after.forces, (before.forces @ turn.T)[order], atol=1e-4)


def test_messages_of_vectors_make_another_network(alloy, vectors):
    count = [sum(w.numel() for w in p.members[0].parameters()) for p in (alloy, vectors)]
    assert count[1] > count[0]


def test_energy_is_extensive(potential):
    atoms = labelled(5)
    one, two = potential.predict([atoms, atoms * (2, 1, 1)])
    assert two.energy_ev == pytest.approx(2 * one.energy_ev, abs=1e-3)
    np.testing.assert_allclose(two.forces[: len(atoms)], one.forces, atol=1e-4)


def test_structures_do_not_feel_each_other_in_a_batch(potential):
    structures = [labelled(seed) for seed in range(5)]
    together = potential.predict(structures)
    alone = [potential.predict([atoms])[0] for atoms in structures]
    np.testing.assert_allclose([p.energy_ev for p in together], [p.energy_ev for p in alone], atol=1e-4)
    chunked = potential.evaluate(structures, max_atoms=16)
    np.testing.assert_allclose([o.energies.mean() for o in chunked], [p.energy_ev for p in alone], atol=1e-4)


def test_elements_differ(alloy):
    carbide, swapped = crystal("CSiCSiCSiCSi"), crystal("CCCCSiSiSiSi")
    carbide.rattle(0.1, seed=1)
    swapped.positions = carbide.positions
    first, second = alloy.predict([carbide, swapped])
    assert abs(first.energy_ev - second.energy_ev) > 1e-4
    assert alloy.elements == ("C", "Si")
    assert alloy.own_energy(carbide.numbers) == pytest.approx(-360.0)


def test_close_atoms_repel(alloy):
    pair = Atoms("C2", positions=[[0, 0, 0], [0.7, 0, 0]], cell=[8, 8, 8], pbc=True)
    forces = alloy.predict([pair])[0].forces
    assert forces[0, 0] < -20
    assert forces[1, 0] > 20


def test_saved_and_loaded_bit_identical(potential, tmp_path):
    potential.save(tmp_path / "model")
    loaded = Potential.load(tmp_path / "model")
    atoms = labelled(9)
    before, after = potential.predict([atoms])[0], loaded.predict([atoms])[0]
    assert before.energy_ev == after.energy_ev
    assert before.energy_std_ev_per_atom == after.energy_std_ev_per_atom
    np.testing.assert_array_equal(before.forces, after.forces)
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".safetensors", ".json"}


def test_a_folder_without_a_potential_is_refused(potential, tmp_path):
    with pytest.raises(UserError, match="no model"):
        Potential.load(tmp_path)
    folder = potential.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"kind": "prior"}))
    with pytest.raises(UserError, match="no potential"):
        Potential.load(folder)
    del config["architecture"]["channels"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="damaged"):
        Potential.load(folder)


def test_unknown_element_and_broken_geometry(potential):
    with pytest.raises(UserError, match="element"):
        potential.predict([crystal("NNNNNNNN")])
    broken = crystal()
    broken.positions[2, 1] = np.nan
    with pytest.raises(NonFiniteForces):
        potential.predict([broken])
    fused = crystal()
    fused.positions[1] = fused.positions[0]
    with pytest.raises(NonFiniteForces):
        potential.predict([fused])


def test_spread_grows_away_from_the_training_set(potential):
    near = [labelled(seed) for seed in range(200, 206)]
    strange = [crystal(length=3.1), crystal(length=2.8)]
    for atoms in strange:
        atoms.rattle(0.3, seed=2)
    usual = np.median([output.force_spread().max() for output in potential.evaluate(near)])
    assert min(output.force_spread().max() for output in potential.evaluate(strange)) > 2 * usual
    calibrated = np.median([prediction.max_force_std for prediction in potential.predict(near)])
    assert min(prediction.max_force_std for prediction in potential.predict(strange)) > 1.5 * calibrated


def test_torch_keeps_refusing_to_unpickle(potential):
    import os

    assert potential.members is not None
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ

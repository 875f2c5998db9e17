"""The fingerprint does not see how a network is written down, and sees which network it is."""

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.services.structures.crystals import (
    diamond,
    graphite,
    networks,
    random_gas,
    rattled,
    silicon_carbide,
)

from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.fingerprint import NOVELTY_THRESHOLD, fingerprint, fingerprint_distance


def network(seed: int) -> Atoms:
    """A small disordered two-element cell."""
    atoms = random_gas(12, 5.0, seed)
    atoms.numbers[::3] = 14
    return atoms


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["permuted", "rotated", "shifted", "imaged", "sheared", "repeated"]),
)
def test_invariance(seed, change):
    rng = np.random.default_rng(seed)
    atoms, other = network(seed), network(seed)
    if change == "permuted":
        other = atoms[rng.permutation(len(atoms))]
    elif change == "rotated":
        rotation = Rotation.random(random_state=seed).as_matrix()
        other.set_cell(atoms.cell.array @ rotation.T)
        other.positions = atoms.positions @ rotation.T
    elif change == "shifted":
        other.positions += rng.uniform(-20, 20, 3)
    elif change == "imaged":
        other.positions += rng.integers(-3, 4, (len(atoms), 3)) @ atoms.cell.array
    elif change == "sheared":  # another cell of the same lattice
        other.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    else:
        other = atoms * (2, 1, 2)
    np.testing.assert_allclose(fingerprint(other), fingerprint(atoms), rtol=1e-6, atol=1e-8)


def test_a_mirror_image_is_the_same_network():
    atoms, mirrored = networks()[0], networks()[0]
    mirrored.positions[:, 0] *= -1
    assert fingerprint_distance(fingerprint(atoms), fingerprint(mirrored)) < 1e-9


@pytest.mark.parametrize("distance", [1.85, 1.85 * 1.8, 5.0, 6.0])
def test_no_jump_as_an_atom_crosses_a_cutoff(distance):
    def trimer(gap: float) -> np.ndarray:
        return fingerprint(
            Atoms("C3", positions=[[0, 0, 0], [1.4, 0, 0], [0, gap, 0]], cell=[30] * 3, pbc=True)
        )

    step = 1e-5
    jump = fingerprint_distance(trimer(distance - step), trimer(distance + step))
    assert jump < 100 * step


def test_moves_continuously():
    atoms = networks()[2]
    start = fingerprint(atoms)
    far, near = (fingerprint_distance(start, fingerprint(rattled(atoms, size, 0))) for size in (1e-3, 1e-5))
    assert near < 0.02 * far
    assert far < 0.02


def test_thermal_copies_are_near_and_independent_networks_far():
    frames = networks()
    densities = [round(density_g_cm3(atoms), 2) for atoms in frames]
    prints = [fingerprint(atoms) for atoms in frames]
    thermal = [
        fingerprint_distance(prints[index], fingerprint(rattled(atoms, 0.05, index)))
        for index, atoms in enumerate(frames)
    ]
    same, different = [], []
    for i in range(len(frames)):
        for j in range(i):
            (same if densities[i] == densities[j] else different).append(
                fingerprint_distance(prints[i], prints[j])
            )
    assert max(thermal) < NOVELTY_THRESHOLD < min(same)
    assert np.mean(same) == pytest.approx(1.0, abs=0.1)  # the unit of the distance
    assert min(different) > max(same)


def test_crystals_differ_and_elements_matter():
    assert fingerprint_distance(fingerprint(diamond()), fingerprint(graphite())) > 5
    both = ("C", "Si")
    swapped = silicon_carbide()
    swapped.numbers[0], swapped.numbers[1] = swapped.numbers[1], swapped.numbers[0]
    assert fingerprint_distance(fingerprint(silicon_carbide(), both), fingerprint(swapped, both)) > 1
    assert fingerprint(diamond(), both).shape == fingerprint(silicon_carbide()).shape
    with pytest.raises(ValueError, match="must name all"):
        fingerprint(silicon_carbide(), ("C",))


def test_size_and_broadcasting():
    prints = np.array([fingerprint(atoms) for atoms in networks()[:3]])
    assert prints.shape == (3, 96)
    assert np.isfinite(prints).all()
    assert fingerprint_distance(prints[:, None], prints[None]).shape == (3, 3)

import numpy as np
import pytest
from ase import Atoms

from nearedge_services.structures.matching import (
    MATCH_TOLERANCE_A,
    Networks,
    lattice_operations,
    match,
)

HEXAGONAL = [[4.0, 0, 0], [-2.0, 2 * np.sqrt(3), 0], [0, 0, 7.0]]


def network(seed, cell=None, symbols="C32"):
    """Random atoms that keep a distance: as unlike any other as a network can be."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, cell=np.eye(3) * 6.4 if cell is None else cell, pbc=True)
    sites = []
    while len(sites) < len(atoms):
        trial = rng.random(3)
        gaps = [np.linalg.norm(((trial - s) - np.round(trial - s)) @ atoms.cell.array) for s in sites]
        if all(gap > 1.2 for gap in gaps):
            sites.append(trial)
    atoms.set_scaled_positions(sites)
    return atoms


def disguised(atoms, seed, noise_a=0.0):
    rng = np.random.default_rng(seed)
    operations = lattice_operations(atoms.cell.array, atoms.cell.array)
    copy = atoms.copy()
    fractional = atoms.get_scaled_positions() @ operations[rng.integers(len(operations))] + rng.random(3)
    copy.set_scaled_positions(fractional % 1)
    copy.positions += rng.normal(scale=noise_a, size=copy.positions.shape)
    return copy[rng.permutation(len(copy))]


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        (np.eye(3) * 5, 48),
        (np.diag([5.0, 5.0, 7.0]), 16),
        (np.diag([5.0, 6.0, 7.0]), 8),
        (HEXAGONAL, 24),
    ],
)
def test_lattice_operations_are_the_point_group(cell, count):
    operations = lattice_operations(cell, cell)
    assert len(operations) == count
    metric = np.asarray(cell) @ np.asarray(cell).T
    for operation in operations:
        assert np.allclose(operation @ metric @ operation.T, metric)


def test_a_disguised_network_is_found_with_what_was_done_to_it():
    atoms = network(0)
    copy = disguised(atoms, 1)
    found = match(copy, atoms)
    assert found.rms_a < 1e-6
    mapped = copy.get_scaled_positions() @ found.operation + found.translation
    difference = mapped - atoms.get_scaled_positions()[found.permutation]
    assert np.abs(difference - np.round(difference)).max() < 1e-6
    assert sorted(found.permutation) == list(range(len(atoms)))


@pytest.mark.parametrize("noise_a", [0.05, 0.15, 0.25])
def test_noise_is_measured(noise_a):
    atoms = network(2)
    found = match(disguised(atoms, 3, noise_a), atoms)
    assert found.rms_a == pytest.approx(noise_a * np.sqrt(3), rel=0.25)
    assert found.rms_a < MATCH_TOLERANCE_A


def test_a_mirror_image_matches():
    atoms = network(4)
    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1
    assert match(mirrored, atoms).rms_a < 1e-6


def test_independent_networks_do_not_match():
    assert match(network(5), network(6)).rms_a > MATCH_TOLERANCE_A


def test_a_slightly_different_volume_is_no_difference_but_a_large_one_is():
    atoms = network(7)
    swollen, other = atoms.copy(), atoms.copy()
    swollen.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
    other.set_cell(atoms.cell.array * 1.05, scale_atoms=True)
    assert match(swollen, atoms).rms_a < 1e-6
    assert match(other, atoms) is None


def test_species_stay():
    atoms = network(8, symbols="Si16C16")
    swapped = atoms.copy()
    swapped.numbers = np.where(atoms.numbers == 6, 14, 6)
    assert match(disguised(atoms, 9), atoms).rms_a < 1e-6
    assert match(swapped, atoms).rms_a > MATCH_TOLERANCE_A


def test_other_composition_or_shape_cannot_match():
    atoms = network(10)
    assert match(network(10, symbols="C31"), atoms) is None
    long = network(10, cell=np.diag([5.0, 5.0, 6.4**3 / 25]))
    assert match(long, atoms) is None


def test_the_nearest_of_several_networks_is_named():
    networks = [network(seed) for seed in (11, 12, 13)]
    index, found = Networks(networks).nearest(disguised(networks[1], 14, 0.1))
    assert index == 1
    assert found.rms_a < MATCH_TOLERANCE_A
    assert Networks(networks).nearest(network(11, symbols="C30")) is None

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch, find_neighbours, mean_by_structure


def random_atoms(count, seed, skew=0.0, length=5.0):
    rng = np.random.default_rng(seed)
    cell = length * (np.eye(3) + skew * np.triu(rng.normal(size=(3, 3)), 1))
    return Atoms(f"C{count}", positions=rng.random((count, 3)) @ cell, cell=cell, pbc=True)


STRUCTURES = {
    "one atom, many images": Atoms("C", cell=[[1.8, 0, 0], [0.7, 1.9, 0], [0.4, -0.6, 2.0]], pbc=True),
    "primitive diamond": bulk("C"),
    "skewed": random_atoms(9, 1, skew=0.6, length=3.5),
    "cube": random_atoms(20, 2),
    "outside the cell": Atoms(
        "C2", positions=[[-7.3, 0, 0], [11.0, 2.0, -9.0]], cell=[3.0, 3.2, 3.4], pbc=True
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_neighbours_are_those_of_ase(name):
    atoms = STRUCTURES[name]
    batch = Batch.from_atoms([atoms], ("C",), dtype=torch.float64)
    neighbours = find_neighbours(batch, 4.0)
    found = neighbours.displacements(batch.positions)
    for i in range(len(atoms)):
        ours = found[i][neighbours.mask[i]].numpy()
        centres, expected = neighbor_list("iD", atoms, 4.0)
        expected = expected[centres == i]
        assert len(ours) == len(expected) > 0
        key = lambda vectors: np.lexsort(np.round(vectors, 6).T)  # noqa: E731
        np.testing.assert_allclose(ours[key(ours)], expected[key(expected)], atol=1e-5)


def test_structures_of_a_batch_do_not_see_each_other():
    first, second = random_atoms(6, 3), random_atoms(11, 4, skew=0.3)
    together = Batch.from_atoms([first, second], ("C",))
    neighbours = find_neighbours(together, 3.0)
    inside = together.structure[neighbours.index] == together.structure[:, None]
    assert inside.all()
    alone = find_neighbours(Batch.from_atoms([second], ("C",)), 3.0)
    assert neighbours.mask[6:].sum() == alone.mask.sum()


def test_padded_entries_lie_at_the_cutoff():
    batch = Batch.from_atoms([random_atoms(12, 5, length=7.0)], ("C",))
    neighbours = find_neighbours(batch, 3.0)
    lengths = neighbours.displacements(batch.positions).norm(dim=-1)
    assert (~neighbours.mask).any()
    torch.testing.assert_close(lengths[~neighbours.mask], torch.full_like(lengths[~neighbours.mask], 3.0))
    assert (lengths[neighbours.mask] < 3.0).all()


def test_displacements_are_differentiable():
    batch = Batch.from_atoms([random_atoms(6, 6)], ("C",), dtype=torch.float64)
    neighbours = find_neighbours(batch, 3.0)
    positions = batch.positions.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: neighbours.displacements(x).square().sum(), (positions,))


def test_displacements_of_some_centres():
    batch = Batch.from_atoms([random_atoms(12, 8)], ("C",))
    neighbours = find_neighbours(batch, 3.0)
    some = neighbours.displacements(batch.positions, slice(4, 9))
    assert torch.equal(some, neighbours.displacements(batch.positions)[4:9])


def test_thousands_of_atoms_have_the_neighbours_of_their_unit():
    unit = random_atoms(40, 9, length=7.0)
    large = unit * (5, 5, 5)
    few, many = (Batch.from_atoms([atoms], ("C",), dtype=torch.float64) for atoms in (unit, large))
    expected, found = find_neighbours(few, 4.0), find_neighbours(many, 4.0)
    assert torch.equal(found.mask.sum(1), expected.mask.sum(1).repeat(125))
    own = (found.index == torch.arange(len(large))[:, None]) | ~found.mask
    assert torch.equal(~own, found.mask)
    lengths, whole = (
        n.displacements(b.positions).norm(dim=-1).sort(dim=1).values
        for n, b in ((expected, few), (found, many))
    )
    torch.testing.assert_close(whole, lengths.repeat(125, 1), atol=1e-9, rtol=0)


def test_an_atom_without_neighbours():
    batch = Batch.from_atoms([Atoms("C", cell=[9] * 3, pbc=True)], ("C",))
    neighbours = find_neighbours(batch, 3.0)
    assert neighbours.mask.tolist() == [[False]]


def test_unknown_element_is_named():
    with pytest.raises(UserError, match="Si"):
        Batch.from_atoms([bulk("Si")], ("C", "N"))


def test_species_follow_the_element_list():
    batch = Batch.from_atoms([Atoms("SiCSi", positions=np.eye(3), cell=[4, 4, 4], pbc=True)], ("C", "Si"))
    assert batch.species.tolist() == [1, 0, 1]


def test_a_structure_without_cell_is_refused():
    with pytest.raises(UserError, match="cell"):
        Batch.from_atoms([Atoms("C")], ("C",))


def test_positions_that_are_not_finite_are_refused():
    batch = Batch.from_atoms([bulk("C")], ("C",))
    with pytest.raises(FloatingPointError):
        find_neighbours(batch.with_positions(batch.positions * float("nan")), 3.0)


def test_mean_by_structure_and_density():
    batch = Batch.from_atoms([random_atoms(2, 7), random_atoms(3, 8)], ("C",))
    means = mean_by_structure(torch.tensor([[1.0], [3.0], [1.0], [2.0], [6.0]]), batch)
    assert means.tolist() == [[2.0], [3.0]]
    torch.testing.assert_close(batch.number_densities, torch.tensor([2.0, 3.0]) / 125)

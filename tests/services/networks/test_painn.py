import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from nearedge_services.networks import messages
from nearedge_services.networks.graph import Batch, find_neighbours
from nearedge_services.networks.messages import ChunkedSums, DenseSums, PaddedSums, Sent
from nearedge_services.networks.painn import PaiNN, PaiNNConfig, RadialBasis

CUTOFF = 4.0


@pytest.fixture(scope="module")
def atoms():
    rng = np.random.default_rng(0)
    cell = 4.6 * (np.eye(3) + 0.2 * np.triu(rng.normal(size=(3, 3)), 1))
    return Atoms("Si4C8", positions=rng.random((12, 3)) @ cell, cell=cell, pbc=True)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = PaiNNConfig(
        n_species=2, n_scalar=16, n_vector=9, n_radial=8, n_layers=3, cutoff=CUTOFF, n_conditions=2
    )
    network = PaiNN(config).double()
    for parameter in network.parameters():  # FiLM starts as the identity: shake it
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def evaluate(network, atoms_list):
    batch = Batch.from_atoms(atoms_list, ("C", "Si"), dtype=torch.float64)
    conditions = torch.tensor([[0.3, -0.7]], dtype=torch.float64).expand(len(batch.positions), 2)
    with torch.no_grad():
        return network(batch, find_neighbours(batch, CUTOFF), conditions)


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_and_reflection(network, atoms, sign):
    turn = sign * Rotation.random(rng=3).as_matrix()
    turned = Atoms(
        atoms.numbers, positions=atoms.positions @ turn.T, cell=atoms.cell.array @ turn.T, pbc=True
    )
    scalars, vectors = evaluate(network, [atoms])
    turned_scalars, turned_vectors = evaluate(network, [turned])
    assert vectors.abs().mean() > 1e-2
    torch.testing.assert_close(turned_scalars, scalars, atol=1e-8, rtol=1e-8)
    expected = torch.einsum("ab,nbv->nav", torch.as_tensor(turn), vectors)
    torch.testing.assert_close(turned_vectors, expected, atol=1e-8, rtol=1e-8)


def test_permutation(network, atoms):
    order = np.random.default_rng(1).permutation(len(atoms))
    scalars, vectors = evaluate(network, [atoms])
    shuffled_scalars, shuffled_vectors = evaluate(network, [atoms[order]])
    torch.testing.assert_close(shuffled_scalars, scalars[order])
    torch.testing.assert_close(shuffled_vectors, vectors[order])


def test_translation_and_wrapping(network, atoms):
    moved = atoms.copy()
    moved.positions += [1.3, -2.1, 0.4]
    moved.wrap()
    moved.positions[3] += 2 * moved.cell.array[0] - moved.cell.array[2]
    for got, expected in zip(evaluate(network, [moved]), evaluate(network, [atoms]), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-8, rtol=1e-8)


def test_supercell(network, atoms):
    for got, expected in zip(evaluate(network, [atoms * (2, 1, 2)]), evaluate(network, [atoms]), strict=True):
        torch.testing.assert_close(got, expected.repeat(4, *[1] * (expected.dim() - 1)), atol=1e-8, rtol=1e-8)


def test_batch_is_the_structures_one_by_one(network, atoms):
    others = [atoms, atoms * (1, 1, 2), atoms]
    together = evaluate(network, others)
    alone = [evaluate(network, [other]) for other in others]
    for k in (0, 1):
        torch.testing.assert_close(together[k], torch.cat([pair[k] for pair in alone]), atol=1e-8, rtol=1e-8)


def test_smooth_at_the_cutoff(network):
    def scalars(distance):
        return evaluate(
            network, [Atoms("C2", positions=[[0, 0, 0], [distance, 0, 0]], cell=[15] * 3, pbc=True)]
        )[0]

    step = (scalars(CUTOFF - 1e-4) - scalars(CUTOFF + 1e-4)).abs().max()
    assert step < 1e-6
    assert (scalars(1.5) - scalars(CUTOFF + 1)).abs().max() > 1e-2


def test_gradient_in_positions_by_finite_difference(network, atoms):
    batch = Batch.from_atoms([atoms], ("C", "Si"), dtype=torch.float64)
    conditions = torch.zeros(len(atoms), 2, dtype=torch.float64)

    def energy(positions):
        moved = batch.with_positions(positions)
        scalars, vectors = network(moved, find_neighbours(moved, CUTOFF), conditions)
        return scalars[:, 0].sum() + vectors.square().sum()

    positions = batch.positions.clone().requires_grad_(True)
    gradient = torch.autograd.grad(energy(positions), positions)[0]
    direction = torch.randn(positions.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-5
    with torch.no_grad():
        slope = (energy(positions + step * direction) - energy(positions - step * direction)) / (2 * step)
    torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-5, atol=1e-6)


def test_conditions_matter_and_are_demanded(network, atoms):
    batch = Batch.from_atoms([atoms], ("C", "Si"), dtype=torch.float64)
    neighbours = find_neighbours(batch, CUTOFF)
    one = network(batch, neighbours, torch.zeros(len(atoms), 2, dtype=torch.float64))[0]
    other = network(batch, neighbours, torch.ones(len(atoms), 2, dtype=torch.float64))[0]
    assert (one - other).abs().max() > 1e-3
    with pytest.raises(ValueError, match="conditions"):
        network(batch, neighbours, None)


def test_layouts_of_the_sums_agree(network, atoms, monkeypatch):
    batch = Batch.from_atoms([atoms, atoms], ("C", "Si"), dtype=torch.float64)
    neighbours = find_neighbours(batch, CUTOFF)
    n_atoms = len(batch.positions)
    dense = network.neighbour_sums(batch, neighbours)
    assert isinstance(dense, DenseSums)
    monkeypatch.setattr(messages, "DENSE_RATIO", 0.0)
    padded = network.neighbour_sums(batch, neighbours)
    assert isinstance(padded, PaddedSums)
    shape = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    sent = Sent.of(*(torch.randn(n_atoms, *size, **shape) for size in ((5,), (2,), (3, 2))))
    expected = padded.collect(sent)
    collected = [dense.collect(sent)]
    with torch.no_grad():
        collected.append(padded.collect(sent))
        monkeypatch.setattr(messages, "CHUNK_ATOMS", 7)
        chunked = network.neighbour_sums(batch, neighbours)
        assert isinstance(chunked, ChunkedSums)
        parts = [chunked.part(centres) for centres in chunked.slices]
        assert [len(part.radial) for part in parts] == [7, 7, 7, 3]
        parts = [part.collect(sent) for part in parts]
    for name in ("scalars", "directions", "vectors"):
        whole = getattr(expected, name)
        assert whole.abs().mean() > 1e-2
        for other in collected:
            torch.testing.assert_close(getattr(other, name), whole)
        torch.testing.assert_close(torch.cat([getattr(part, name) for part in parts]), whole)


def test_sums_are_those_of_the_formula(network, atoms):
    batch = Batch.from_atoms([atoms], ("C", "Si"), dtype=torch.float64)
    neighbours = find_neighbours(batch, CUTOFF)
    shape = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
    scalars, directions, vectors = (torch.randn(len(atoms), *size, **shape) for size in ((5,), (2,), (3, 2)))
    vectors_to = neighbours.displacements(batch.positions)
    distances = (vectors_to.square().sum(-1) + 0.01).sqrt()
    radial = network.radial(distances) * neighbours.mask[..., None]
    units = vectors_to / distances[..., None]
    got = network.neighbour_sums(batch, neighbours).collect(Sent.of(scalars, directions, vectors))
    index = neighbours.index
    expected = torch.einsum("nkr,nks->nrs", radial, scalars[index])
    torch.testing.assert_close(got.scalars, expected)
    expected = torch.einsum("nkr,nka,nkv->narv", radial, units, directions[index])
    torch.testing.assert_close(got.directions, expected)
    torch.testing.assert_close(got.vectors, torch.einsum("nkr,nkav->narv", radial, vectors[index]))


@pytest.mark.parametrize("size", [1, 5, 24, 41, 59])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_of_any_size_give_the_same(network, atoms, monkeypatch, size, dtype):
    network = copy.deepcopy(network).to(dtype)
    batch = Batch.from_atoms([atoms, atoms * (1, 2, 2)], ("C", "Si"), dtype=dtype)
    neighbours = find_neighbours(batch, CUTOFF)
    conditions = torch.tensor([[0.3, -0.7], [-1.0, 0.2]], dtype=dtype)
    with torch.no_grad():
        expected = network(batch, neighbours, conditions)
        monkeypatch.setattr(messages, "CHUNK_ATOMS", size)
        chunked = network(batch, neighbours, conditions)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for got, whole in zip(chunked, expected, strict=True):
        torch.testing.assert_close(got, whole, atol=tolerance, rtol=tolerance)


def test_gradients_in_chunks(network, atoms, monkeypatch):
    batch = Batch.from_atoms([atoms, atoms * (1, 2, 2)], ("C", "Si"), dtype=torch.float64)
    neighbours = find_neighbours(batch, CUTOFF)
    conditions = torch.tensor([[0.3, -0.7], [-1.0, 0.2]], dtype=torch.float64)

    def gradients():
        positions = batch.positions.clone().requires_grad_(True)
        scalars, vectors = network(batch.with_positions(positions), neighbours, conditions)
        total = scalars.square().sum() + vectors.square().sum()
        return torch.autograd.grad(total, [positions, *network.parameters()], allow_unused=True)

    whole = gradients()
    monkeypatch.setattr(messages, "WHOLE_GRADIENT_ATOMS", 10)
    monkeypatch.setattr(messages, "GRADIENT_CHUNK_ATOMS", 13)
    assert isinstance(network.neighbour_sums(batch, neighbours), ChunkedSums)
    assert whole[0].abs().max() > 1e-2
    torch.testing.assert_close(gradients(), whole)


def test_radial_functions_have_no_denormal_numbers():
    basis = RadialBasis(16, 4.5)
    distances = torch.linspace(0.1, 4.6, 200)[:, None]
    values = basis(distances)
    assert not ((values != 0) & (values < torch.finfo(values.dtype).tiny)).any()
    assert (values[distances[:, 0] >= 4.5] == 0).all()
    gauss = torch.exp(-0.5 * ((distances[..., None] - basis.centres) / basis.widths) ** 2)
    envelope = (1 - (distances / 4.5).clamp(max=1).square()).square()
    torch.testing.assert_close(values, envelope[..., None] * gauss, atol=1e-6, rtol=0)


def test_conditions_of_structures_are_those_of_their_atoms(network, atoms):
    batch = Batch.from_atoms([atoms, atoms], ("C", "Si"), dtype=torch.float64)
    neighbours = find_neighbours(batch, CUTOFF)
    conditions = torch.tensor([[0.3, -0.7], [-1.0, 0.2]], dtype=torch.float64)
    per_structure = network(batch, neighbours, conditions)
    torch.testing.assert_close(per_structure, network(batch, neighbours, conditions[batch.structure]))
    with pytest.raises(ValueError, match="5 rows"):
        network(batch, neighbours, torch.zeros(5, 2, dtype=torch.float64))


def test_coincident_atoms_stay_finite(network):
    atoms = Atoms("C2", positions=np.zeros((2, 3)), cell=[6] * 3, pbc=True)
    batch = Batch.from_atoms([atoms], ("C", "Si"), dtype=torch.float64)
    positions = batch.positions.clone().requires_grad_(True)
    batch = batch.with_positions(positions)
    scalars, vectors = network(batch, find_neighbours(batch, CUTOFF), torch.zeros(2, 2, dtype=torch.float64))
    (scalars.sum() + vectors.sum()).backward()
    assert torch.isfinite(scalars).all()
    assert torch.isfinite(positions.grad).all()

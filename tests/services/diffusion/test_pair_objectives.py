import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from tests.services.diffusion.slopes import batch_of, networks

from nearedge_db.errors import UserError
from nearedge_services.diffusion.guidance import gradients
from nearedge_services.diffusion.pair_objectives import (
    PairDistributionObjective,
    StructureFactorObjective,
    find_pairs,
)
from nearedge_services.structures.rdf import radial_distribution

ELEMENTS = ("C", "Si")
Q = np.linspace(0.5, 14.0, 55)


def gas(count=400, side=16.0, seed=0):
    rng = np.random.default_rng(seed)
    return Atoms(f"C{count}", positions=side * rng.random((count, 3)), cell=[side] * 3, pbc=True)


@pytest.mark.parametrize("pair", [None, ("C", "Si"), ("Si", "Si")])
def test_it_is_the_g_of_the_analysis(pair):
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rattle(0.1, seed=0)
    r, expected = radial_distribution([atoms], r_max=5.0, bins=5000, sigma=0.1, pair=pair)
    chosen = slice(800, None, 20)
    objective = PairDistributionObjective(r[chosen], expected[chosen], 0.1, pair, ELEMENTS)
    found = objective.pair_distribution(batch_of([atoms], ELEMENTS))[0].numpy()
    np.testing.assert_allclose(found, expected[chosen], atol=0.01 * expected.max())
    assert objective.value(batch_of([atoms], ELEMENTS)).item() < 1e-3 * len(atoms)


def test_a_gas_has_no_structure():
    batch = batch_of([gas()])
    r = np.linspace(2.0, 6.0, 21)
    g = PairDistributionObjective(r, r, 0.2).pair_distribution(batch)
    assert g.mean().item() == pytest.approx(1, abs=0.03)
    s = StructureFactorObjective(Q[20:], Q[20:], 7.0).structure_factor(batch)
    assert s.mean().item() == pytest.approx(1, abs=0.03)


def test_pairs_both_ways_and_with_images():
    atoms = Atoms("C2", positions=[[0, 0, 0], [1.5, 0, 0]], cell=[3.0, 20.0, 20.0], pbc=True)
    pairs = find_pairs(batch_of([atoms]), 3.1)
    assert sorted(pairs.distances.tolist()) == pytest.approx([1.5] * 4 + [3.0] * 4)


def test_structure_factor_is_the_transform_of_g():
    """S(q) − 1 = 4πρ ∫ (g − 1) w j₀(qr) r² dr with a finely resolved g."""
    atoms = networks(ELEMENTS, counts=(18,))[0]
    batch, cutoff = batch_of([atoms], ELEMENTS), 7.0
    r = np.linspace(0.005, cutoff, 1400)
    g = PairDistributionObjective(r, r, 0.01).pair_distribution(batch)[0].numpy()
    integrand = (g - 1) * r**2 * np.sinc(r / cutoff) * np.sinc(np.outer(Q, r) / np.pi)
    expected = 1 + 4 * np.pi * len(atoms) / atoms.cell.volume * integrand.sum(1) * (r[1] - r[0])
    found = StructureFactorObjective(Q, Q, cutoff).structure_factor(batch)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(found - 1).max())


@pytest.mark.parametrize("window", ["lorch", "cutoff"])
def test_structure_factor_is_the_sum_over_pairs(window):
    atoms = networks(ELEMENTS, counts=(10,))[0]
    batch, cutoff = batch_of([atoms], ELEMENTS), 6.0
    b = {"C": 6.65, "Si": 4.15}
    pairs = find_pairs(batch, cutoff)
    r = pairs.distances.numpy()
    lengths = np.array([b[symbol] for symbol in atoms.get_chemical_symbols()])
    weights = lengths[pairs.first] * lengths[pairs.second] / (len(atoms) * lengths.mean() ** 2)
    inner = np.linspace(0, cutoff, 20001)[1:]
    taper, inner_taper = (np.sinc(x / cutoff) if window == "lorch" else np.ones_like(x) for x in (r, inner))
    even = (inner_taper * inner**2 * np.sinc(np.outer(Q, inner) / np.pi)).sum(1) * inner[0]
    ordered = (weights * taper * np.sinc(np.outer(Q, r) / np.pi)).sum(1)
    expected = 1 + ordered - 4 * np.pi * len(atoms) / atoms.cell.volume * even
    objective = StructureFactorObjective(Q, Q, cutoff, window, b, ELEMENTS)
    found = objective.structure_factor(batch)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected - 1).max())


def test_structure_factor_of_a_crystal_peaks_where_it_diffracts():
    a = 3.567
    diamond = bulk("C", cubic=True, a=a) * 2
    q = np.linspace(2.0, 6.5, 300)
    s = StructureFactorObjective(q, q, 16.0).structure_factor(batch_of([diamond]))[0].numpy()
    near = q < 4
    first = q[near][s[near].argmax()]
    assert first == pytest.approx(2 * np.pi / a * 3**0.5, abs=0.05)  # 111
    forbidden = np.interp(2 * np.pi / a * 2, q, s)  # 200
    assert forbidden < 0.2 * s[near].max()


def test_equal_scattering_lengths_change_nothing_and_a_blind_element_is_not_seen():
    atoms = networks(ELEMENTS, counts=(12,))[0]
    batch = batch_of([atoms], ELEMENTS)
    plain = StructureFactorObjective(Q, Q, 6.0).structure_factor(batch)
    equal = StructureFactorObjective(Q, Q, 6.0, weights={"C": 3.0, "Si": 3.0}, elements=ELEMENTS)
    torch.testing.assert_close(equal.structure_factor(batch), plain)
    blind = StructureFactorObjective(Q, Q, 6.0, weights={"C": 1.0, "Si": 0.0}, elements=ELEMENTS)
    gradient, _ = gradients(blind.value, batch, False)
    silicon = atoms.numbers == 14
    assert (gradient[silicon] == 0).all()
    assert (gradient[~silicon] != 0).any(dim=1).all()


def test_overlapping_atoms_have_finite_gradients():
    atoms = Atoms("C3", positions=[[1, 1, 1], [1, 1, 1], [2.4, 1, 1]], cell=[6.0] * 3, pbc=True)
    r = np.linspace(1, 4, 31)
    for objective in (PairDistributionObjective(r, r), StructureFactorObjective(Q, Q, 5.0)):
        gradient, _ = gradients(objective.value, batch_of([atoms]), False)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PairDistributionObjective(np.array([1, 2, 4.0]), np.ones(3)), "equally spaced"),
        (lambda: PairDistributionObjective(np.linspace(0, 3, 4), np.ones(4)), "equally spaced"),
        (lambda: PairDistributionObjective(np.linspace(1, 3, 4), np.ones(3)), "equally spaced"),
        (lambda: PairDistributionObjective(Q, Q, pair=("C", "H"), elements=("C",)), "partial"),
        (lambda: StructureFactorObjective(np.array([0.0, 1.0]), np.ones(2)), "positive wave numbers"),
        (lambda: StructureFactorObjective(Q, Q, weights={"C": 1.0}, elements=ELEMENTS), "weight"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_pair_that_is_not_there():
    with pytest.raises(ValueError, match="no atom"):
        PairDistributionObjective(Q, Q, 0.1, ("C", "Si"), ELEMENTS).value(batch_of([bulk("C")], ELEMENTS))

"""A fingerprint of a network: smooth, and blind to how the same network is written down."""

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import atomic_numbers

from nearedge_services.structures.angles import bond_triplets
from nearedge_services.structures.coordination import pair_cutoffs
from nearedge_services.structures.neighbours import Pairs, find_pairs

Array = npt.NDArray[np.float64]

CUTOFF_A = 6.0
FADE_A = 1.0
"""Pairs fade out over this length before the cutoff, Å, so that no atom enters or leaves with a jump."""

RADIAL_CENTRES_A = np.linspace(1.0, 5.8, 25)
RADIAL_SIGMA_A = 0.35
"""Much wider than thermal motion (0.05–0.1 Å), narrower than a coordination shell."""

ANGULAR_REACH = 1.8
"""Triplets fade out between the bond cutoff and this multiple of it (3.3 Å for carbon).

Ending them at 1.4 (2.6 Å) made thermal noise as large as the difference between networks: the fade then
lies on the flank of the second shell without taking in its angles."""

ANGULAR_CENTRES = np.linspace(-1.0, 1.0, 16)
ANGULAR_SIGMA = 0.2
"""Width in the cosine of the angle."""

SHELL_CENTRES_A = np.linspace(1.4, 5.6, 10)
SHELL_SIGMA_A = 0.35

ANGULAR_WEIGHT = 0.2
"""Brings the angular part to the size of the other two."""

UNIT = 0.92
"""Unscaled mean distance of independent 64-atom networks of amorphous carbon of the same density."""

NOVELTY_THRESHOLD = 0.45
"""Structures closer than this are one network up to thermal motion; further apart they are different.

See `fingerprint_distance` for the measurement behind it."""


def fingerprint(atoms: Atoms, elements: tuple[str, ...] | None = None) -> Array:
    """Describe a network by numbers that do not depend on how it is written down, shape (F,).

    Three parts, every one a mean over the atoms: Gaussian-smeared pair distances up to 6 Å for each pair of
    elements (25 numbers), cosines of the angles between near neighbours for each central element (16), and
    the covariance among the atoms of their own smeared shells for each element (55). F is 96 for one element.

    Continuous in the positions, and invariant under permutation, rotation, translation, the choice of
    periodic images and supercells. ``elements`` fixes the blocks (default: those present, alphabetically),
    so that structures of different composition can be compared. Raises ValueError when it misses one that
    is present.
    """
    present = tuple(sorted(set(atoms.get_chemical_symbols())))
    elements = present if elements is None else elements
    if not set(present) <= set(elements):
        raise ValueError(f"{elements=} must name all of {present}")
    species, kinds = _species(atoms, elements), len(elements)
    pairs = find_pairs(atoms, CUTOFF_A)
    weights = _fade(pairs.distances_a, CUTOFF_A - FADE_A, CUTOFF_A) / np.maximum(pairs.distances_a, 0.1)
    parts = [
        _radial(atoms, pairs, weights, species, kinds),
        ANGULAR_WEIGHT * _angular(atoms, pairs, species, kinds),
        _shell_covariance(atoms, pairs, weights, species, kinds),
    ]
    return np.concatenate(parts) / UNIT


def fingerprint_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Euclidean distance of fingerprints (…, F), leading axes broadcast; one is the typical distance below.

    Measured on the reference networks of amorphous carbon (64 atoms, 1.6–3.4 g/cm³): independent networks
    of the same density are 0.80–1.33 apart (mean 1.00), of different densities 2.6 or more (median 7.8).
    Copies with every coordinate displaced by 0.05 Å (standard deviation, about room temperature) are
    0.10–0.27 from the original (mean 0.18), by 0.1 Å 0.29–0.65 (mean 0.45). Diamond and graphite are 16.7
    apart. Larger cells fluctuate less: the scale is that of 64 atoms.
    """
    return np.linalg.norm(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), axis=-1)


def _fade(x: Array, start: float, stop: float) -> Array:
    """One up to start, zero from stop on, half a cosine between."""
    t = np.clip((x - start) / (stop - start), 0.0, 1.0)
    return 0.5 * (1.0 + np.cos(np.pi * t))


def _smeared(
    values: Array, weights: Array, rows: npt.NDArray[np.int64], *, n_rows: int, centres: Array, sigma: float
) -> Array:
    """Weighted sums of Gaussians at the centres, shape (n_rows, len(centres)), values grouped by row.

    Each value is shared linearly between two neighbouring points of a fine axis, and the Gaussians are taken
    there: continuous, and many times faster than one exponential for each value and centre.
    """
    step = sigma / 20
    axis = np.arange(centres[0] - 6 * sigma, centres[-1] + 6 * sigma, step)
    place = np.clip((values - axis[0]) / step, 0.0, len(axis) - 1.001)
    left = place.astype(np.int64)
    fraction = place - left
    index = np.concatenate([rows * len(axis) + left, rows * len(axis) + left + 1])
    shares = np.concatenate([weights * (1.0 - fraction), weights * fraction])
    sums = np.asarray(np.bincount(index, shares, minlength=n_rows * len(axis)), dtype=float)
    gaussians = np.exp(-0.5 * ((axis[:, None] - centres) / sigma) ** 2)
    return np.asarray(sums.reshape(n_rows, len(axis)) @ gaussians)


def _species(atoms: Atoms, elements: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Index into the elements of every atom, shape (N,)."""
    numbers = [atomic_numbers[element] for element in elements]
    order = np.argsort(numbers)
    return order[np.searchsorted(numbers, atoms.numbers, sorter=order)].astype(np.int64)


def _radial(atoms: Atoms, pairs: Pairs, weights: Array, species: npt.NDArray[np.int64], kinds: int) -> Array:
    """Weighted pair distances per atom for every unordered pair of elements."""
    rows = species[pairs.i] * kinds + species[pairs.j]
    sums = _smeared(
        pairs.distances_a, weights, rows, n_rows=kinds**2, centres=RADIAL_CENTRES_A, sigma=RADIAL_SIGMA_A
    ) / len(atoms)
    by_pair = sums.reshape(kinds, kinds, -1)
    return by_pair[np.triu_indices(kinds)].ravel()


def _angular(atoms: Atoms, pairs: Pairs, species: npt.NDArray[np.int64], kinds: int) -> Array:
    """Cosines of the angles at every atom, weighted by how near both neighbours are, per central element."""
    strength = _fade(pairs.distances_a / pair_cutoffs(pairs, atoms), 1.0, ANGULAR_REACH)
    near, strength = pairs.select(strength > 0), strength[strength > 0]
    first, second = bond_triplets(near)
    directions = near.vectors_a / np.maximum(near.distances_a, 1e-9)[:, None]
    cosines = np.einsum("tx,tx->t", directions[first], directions[second])
    weights, rows = strength[first] * strength[second], species[near.i[first]]
    return _smeared(
        cosines, weights, rows, n_rows=kinds, centres=ANGULAR_CENTRES, sigma=ANGULAR_SIGMA
    ).ravel() / len(atoms)


def _shell_covariance(
    atoms: Atoms, pairs: Pairs, weights: Array, species: npt.NDArray[np.int64], kinds: int
) -> Array:
    """How the shells around the atoms of an element vary together, which the cell mean cannot tell."""
    shells = _smeared(
        pairs.distances_a, weights, pairs.i, n_rows=len(atoms), centres=SHELL_CENTRES_A, sigma=SHELL_SIGMA_A
    )
    upper = np.triu_indices(len(SHELL_CENTRES_A))
    parts = []
    for kind in range(kinds):
        own = shells[species == kind]
        deviations = own - own.mean(axis=0) if len(own) else own
        parts.append((deviations.T @ deviations / len(atoms))[upper])
    return np.concatenate(parts)

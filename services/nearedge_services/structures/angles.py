"""Bond angles: the angles at every atom between its bonds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms
from scipy.ndimage import gaussian_filter1d

from nearedge_services.structures.coordination import find_bonds
from nearedge_services.structures.neighbours import Pairs

Array = npt.NDArray[np.float64]


def bond_triplets(bonds: Pairs) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices into the pairs, both shape (T,): every two different pairs that share their first atom, once.

    The pairs must be sorted by their first atom, as `find_pairs` returns them.
    """
    counts = np.bincount(bonds.i)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for count in np.unique(counts[counts > 1]):
        a, b = np.triu_indices(count, k=1)
        offsets = starts[counts == count][:, None]
        firsts.append((offsets + a).ravel())
        seconds.append((offsets + b).ravel())
    return np.concatenate(firsts), np.concatenate(seconds)


def bond_angles(atoms: Atoms) -> Array:
    """All bond angles in degrees, shape (T,)."""
    bonds = find_bonds(atoms)
    first, second = bond_triplets(bonds)
    products = np.einsum("tx,tx->t", bonds.vectors_a[first], bonds.vectors_a[second])
    cosines = products / (bonds.distances_a[first] * bonds.distances_a[second])
    return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def angle_distribution(
    atoms_list: Sequence[Atoms], bins: int = 90, sigma_deg: float = 2.0
) -> tuple[Array, Array]:
    """Distribution of bond angles over all structures: bin centres in degrees (bins,) and density per degree.

    The density integrates to one over 0–180°; ``sigma_deg`` smears it (zero: a bare histogram). Raises
    ValueError when there is no angle at all.
    """
    angles = np.concatenate([np.empty(0), *(bond_angles(atoms) for atoms in atoms_list)])
    if not len(angles):
        raise ValueError(f"no bond angle in {len(atoms_list)} structures")
    density, edges = np.histogram(angles, bins=bins, range=(0.0, 180.0), density=True)
    if sigma_deg > 0:
        density = gaussian_filter1d(density, sigma_deg / (180.0 / bins), mode="reflect")
    return (edges[:-1] + edges[1:]) / 2, density

"""Radial distribution functions of periodic structures."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import atomic_numbers
from scipy.ndimage import gaussian_filter1d

from nearedge_services.structures.neighbours import find_pairs

Array = npt.NDArray[np.float64]


def radial_distribution(
    atoms_list: Sequence[Atoms],
    r_max: float = 6.0,
    bins: int = 120,
    sigma: float = 0.05,
    pair: tuple[str, str] | None = None,
) -> tuple[Array, Array]:
    """g(r) averaged over structures: bin centres in Å (bins,) and g (bins,), which tends to one far away.

    ``r_max`` and the Gaussian smearing ``sigma`` are in Å (zero: a bare histogram). ``pair`` picks the
    partial g of two elements, averaged over the structures that have both. The normalisation is the ideal
    gas of each structure's own density: g(r) = n(r) / (N_a ρ_b 4π r² dr); periodic images beyond half the
    cell count. Raises ValueError without a structure to average.
    """
    width = r_max / bins
    extra = int(np.ceil(4 * sigma / width)) if sigma > 0 else 0  # so that smearing loses nothing at r_max
    edges: Array = width * np.arange(bins + extra + 1, dtype=float)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    curves = [_pair_density(atoms, edges, pair) / shells for atoms in atoms_list if _has(atoms, pair)]
    if not curves:
        raise ValueError(f"no structure to average: {len(atoms_list)} given, {pair=}")
    g = np.mean(curves, axis=0)
    if sigma > 0:
        g = gaussian_filter1d(g * shells, sigma / width, mode="constant") / shells
    centres = (edges[:-1] + edges[1:]) / 2
    return centres[:bins], g[:bins]


def _has(atoms: Atoms, pair: tuple[str, str] | None) -> bool:
    return pair is None or all((atoms.numbers == atomic_numbers[symbol]).any() for symbol in pair)


def _pair_density(atoms: Atoms, edges: Array, pair: tuple[str, str] | None) -> Array:
    """Pairs in each shell over N_a ρ_b, in Å³."""
    pairs = find_pairs(atoms, float(edges[-1]))
    first = np.ones(len(atoms), bool) if pair is None else atoms.numbers == atomic_numbers[pair[0]]
    second = np.ones(len(atoms), bool) if pair is None else atoms.numbers == atomic_numbers[pair[1]]
    counted = pairs.distances_a[first[pairs.i] & second[pairs.j]]
    histogram = np.histogram(counted, bins=edges)[0]
    return histogram * atoms.cell.volume / (first.sum() * second.sum())

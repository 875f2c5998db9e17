"""Is this the same periodic structure? Matching under permutation, lattice symmetry and translation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from ase import Atoms
from scipy.optimize import linear_sum_assignment

from nearedge_services.structures.fingerprint import fingerprint, fingerprint_distance

Array = npt.NDArray[np.float64]

MATCH_TOLERANCE_A = 0.5
"""Root mean square displacement (Å) below which two networks count as one.

Far above what relaxation or heat do to a network (0.05 to 0.2 Å) and far below what the best rigid motion and
permutation leave between independent 64-atom networks of amorphous carbon (0.8 to 1.3 Å)."""

VOLUME_TOLERANCE = 0.06
"""Relative difference of volume up to which two cells are compared, after scaling both to the mean."""

METRIC_TOLERANCE = 0.02
"""Relative difference of cell shape (entries of the metric over the longest squared edge)."""

_SMEARING_A = 0.25
_GRID_A = 0.4
_STARTS = 4
_MAX_PASSES = 10


@dataclass(frozen=True)
class Match:
    """The best rigid motion and permutation of one structure onto another of the same cell.

    Row k of the first structure lies on row ``permutation[k]`` of the second: fractional coordinates
    ``f[k] @ operation + translation`` modulo one.
    """

    rms_a: float
    """Root mean square displacement that is left, Å."""
    operation: npt.NDArray[np.int64]
    """(3, 3), an isometry of the lattice; rotations and mirrors."""
    translation: Array
    """(3,), fractional."""
    permutation: npt.NDArray[np.int64]
    """(N,)."""


def lattice_operations(
    first_cell: npt.ArrayLike, second_cell: npt.ArrayLike, tolerance: float = METRIC_TOLERANCE
) -> npt.NDArray[np.int64]:
    """Integer matrices (M, 3, 3) that take fractional rows of one cell to the other without distortion.

    W qualifies when W G₂ Wᵀ = G₁ for the metrics G = C Cᵀ of the cells C (3, 3) scaled to unit volume, within
    the tolerance. Entries are −1, 0 and 1, which is complete for reduced cells: 48 for a cube.
    """
    metrics = []
    for cell in (first_cell, second_cell):
        array = np.asarray(cell, dtype=float)
        scaled = array / abs(np.linalg.det(array)) ** (1 / 3)
        metrics.append(scaled @ scaled.T)
    allowed = tolerance * metrics[0].diagonal().max()
    rows = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.int64)
    lengths = np.einsum("ra,ab,rb->r", rows, metrics[1], rows)
    fitting = [rows[np.abs(lengths - square) <= allowed] for square in metrics[0].diagonal()]
    candidates = np.array(list(product(*fitting)), dtype=np.int64).reshape(-1, 3, 3)
    moved = np.einsum("mab,bc,mdc->mad", candidates, metrics[1], candidates)
    return candidates[np.abs(moved - metrics[0]).max(axis=(1, 2), initial=0.0) <= allowed]


def match(first: Atoms, second: Atoms) -> Match | None:
    """The best match found, or None when composition or cell make one impossible.

    For every isometry of the lattice the correlation of the smeared atoms is taken over all translations at
    once by fast Fourier transform; the highest peaks are refined by optimal assignment (Hungarian method) and
    removal of the mean displacement in turn. Both cells are scaled to their mean volume. Distances between
    images are right up to half the shortest cell height, far more than any displacement that counts.
    """
    return _match(first, second, _Transforms(first, second.cell.array))


class Networks:
    """Structures to compare others with, such as the networks a model was trained on."""

    def __init__(self, networks: Sequence[Atoms]) -> None:
        self.networks = list(networks)
        self._prints: dict[int, Array] = {}

    def compatible(self, atoms: Atoms) -> list[int]:
        """Networks of the same composition with like volume, the most alike by fingerprint first."""
        numbers, volume = np.sort(atoms.numbers), atoms.cell.volume
        found = [
            k
            for k, other in enumerate(self.networks)
            if len(other) == len(atoms)
            and np.array_equal(np.sort(other.numbers), numbers)
            and _like_volume(volume, other.cell.volume)
        ]
        own = fingerprint(atoms)
        return sorted(found, key=lambda k: float(fingerprint_distance(own, self._print(k))))

    def nearest(self, atoms: Atoms, candidates: int = 12) -> tuple[int, Match] | None:
        """The best match among the first compatible networks, with its index; None without any."""
        best: tuple[int, Match] | None = None
        transforms: _Transforms | None = None
        for k in self.compatible(atoms)[:candidates]:
            cell = self.networks[k].cell.array
            if transforms is None or not transforms.serves(cell):
                transforms = _Transforms(atoms, cell)
            result = _match(atoms, self.networks[k], transforms)
            if result is not None and (best is None or result.rms_a < best[1].rms_a):
                best = (k, result)
        return best

    def _print(self, k: int) -> Array:
        if k not in self._prints:
            self._prints[k] = fingerprint(self.networks[k])
        return self._prints[k]


class _Transforms:
    """Structure factors of one structure after every isometry into another cell, by species."""

    def __init__(self, atoms: Atoms, cell: Array) -> None:
        self.metric = _unit_metric(cell)
        self.operations = lattice_operations(atoms.cell.array, cell)
        self.shape = _grid_shape(cell)
        self.species = sorted(set(atoms.numbers.tolist()))
        fractional = atoms.cell.scaled_positions(atoms.positions)
        self.factors = [
            [_structure_factor((fractional @ w)[atoms.numbers == z], self.shape) for z in self.species]
            for w in self.operations
        ]

    def serves(self, cell: Array) -> bool:
        """Whether another cell has the same shape and grid."""
        return _grid_shape(cell) == self.shape and np.allclose(_unit_metric(cell), self.metric, atol=1e-6)


def _match(first: Atoms, second: Atoms, transforms: _Transforms) -> Match | None:
    same = np.array_equal(np.sort(first.numbers), np.sort(second.numbers))
    if not same or not _like_volume(first.cell.volume, second.cell.volume) or not len(transforms.operations):
        return None
    cell = second.cell.array * ((1 + first.cell.volume / second.cell.volume) / 2) ** (1 / 3)
    fractional = first.cell.scaled_positions(first.positions)
    goal = second.cell.scaled_positions(second.positions)
    other = [_structure_factor(goal[second.numbers == z], transforms.shape) for z in transforms.species]
    peaks = [
        (*_highest_peak(own, other, cell, transforms.shape), operation)
        for own, operation in zip(transforms.factors, transforms.operations, strict=True)
    ]
    peaks.sort(key=lambda peak: -peak[0])
    results = [
        _refine(fractional @ operation, first.numbers, goal, second.numbers, cell, shift, operation)
        for _, shift, operation in peaks[:_STARTS]
    ]
    return min(results, key=lambda result: result.rms_a)


def _like_volume(first: float, second: float) -> bool:
    return abs(first - second) <= VOLUME_TOLERANCE * (first + second) / 2


def _unit_metric(cell: Array) -> Array:
    return np.asarray(cell @ cell.T / abs(np.linalg.det(cell)) ** (2 / 3))


def _grid_shape(cell: Array) -> tuple[int, int, int]:
    """Even numbers of grid points about 0.4 Å apart."""
    lengths = np.linalg.norm(cell, axis=1)
    counts = [2 * max(int(np.ceil(length / _GRID_A / 2)), 2) for length in lengths]
    return counts[0], counts[1], counts[2]


def _structure_factor(fractional: Array, shape: tuple[int, int, int]) -> npt.NDArray[np.complex128]:
    """Sum of exp(−2πi k·f) over the atoms, on the wave vectors of a real FFT, (n, n, n // 2 + 1)."""
    axes = [np.fft.fftfreq(n, 1 / n) for n in shape[:2]] + [np.arange(shape[2] // 2 + 1)]
    x, y, z = (np.exp(-2j * np.pi * np.outer(k, fractional[:, a])) for a, k in enumerate(axes))
    plane = (x[:, None] * y[None]).reshape(-1, len(fractional))
    return np.asarray(plane @ z.T).reshape(shape[0], shape[1], -1)


def _highest_peak(
    own: Sequence[npt.NDArray[np.complex128]],
    other: Sequence[npt.NDArray[np.complex128]],
    cell: Array,
    shape: tuple[int, int, int],
) -> tuple[float, Array]:
    """Largest value over all translations of Σ exp(−d²/4s²), up to a constant, and the translation (3,)."""
    product_sum = sum(np.conj(a) * b for a, b in zip(own, other, strict=True))
    correlation = np.fft.irfftn(product_sum * _damping(cell, shape), s=shape)
    place = int(correlation.argmax())
    index = np.array(np.unravel_index(place, shape))
    return float(correlation.flat[place]), index / np.array(shape)


def _damping(cell: Array, shape: tuple[int, int, int]) -> Array:
    """exp(−k² s²): both structures smeared by a Gaussian of width s."""
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    axes = [np.fft.fftfreq(n, 1 / n) for n in shape[:2]] + [np.arange(shape[2] // 2 + 1)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) @ reciprocal
    return np.asarray(np.exp(-(mesh**2).sum(axis=-1) * _SMEARING_A**2))


def _refine(
    own: Array,
    own_numbers: npt.NDArray[np.int64],
    goal: Array,
    goal_numbers: npt.NDArray[np.int64],
    cell: Array,
    shift: Array,
    operation: npt.NDArray[np.int64],
) -> Match:
    """Assign atoms and centre the displacement in turn until the assignment stands."""
    permutation = np.full(len(own), -1)
    for _ in range(_MAX_PASSES):
        difference = goal[None] - (own + shift)[:, None]
        difference -= np.round(difference)
        cost = ((difference @ cell) ** 2).sum(axis=-1)
        previous, permutation = permutation, _assign(cost, own_numbers, goal_numbers)
        left = difference[np.arange(len(own)), permutation]
        shift = shift + left.mean(axis=0)
        if np.array_equal(previous, permutation):
            break
    rest = (left - left.mean(axis=0)) @ cell
    rms = float(np.sqrt((rest**2).sum(axis=-1).mean()))
    return Match(rms, operation, np.mod(shift, 1.0), permutation)


def _assign(
    cost: Array, own_numbers: npt.NDArray[np.int64], goal_numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The permutation of least total cost that keeps the species."""
    permutation = np.empty(len(cost), dtype=np.int64)
    for z in np.unique(own_numbers):
        rows, columns = np.flatnonzero(own_numbers == z), np.flatnonzero(goal_numbers == z)
        first, second = linear_sum_assignment(cost[np.ix_(rows, columns)])
        permutation[rows[first]] = columns[second]
    return permutation

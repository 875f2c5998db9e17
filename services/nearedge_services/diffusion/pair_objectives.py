"""Targets in the distances between atoms: the pair distribution function and the structure factor."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import spline_filter1d
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch, find_neighbours

Array = npt.NDArray[np.float64]

MARGIN = 20
"""Grid points beyond both ends of a spline, so that its ends are not felt."""

REACH = 5.0
"""Gaussians are cut off at so many standard deviations, at 4e-6 of their height."""


@dataclass(frozen=True)
class Pairs:
    """All P pairs (i, j) of a batch nearer than a cutoff, both ways round.

    distances: (P,) Å, differentiable; first, second: (P,) atoms; structure: (P,).
    """

    distances: Tensor
    first: Tensor
    second: Tensor
    structure: Tensor


def find_pairs(batch: Batch, cutoff: float) -> Pairs:
    """Pairs up to `cutoff` Å, periodic images of an atom with itself included."""
    neighbours = find_neighbours(batch, cutoff)
    vectors = neighbours.displacements(batch.positions)[neighbours.mask]
    # softened: atoms in one place must not have a gradient that is not a number
    distances = (vectors.square().sum(-1) + 1e-12).sqrt()
    first, slot = neighbours.mask.nonzero(as_tuple=True)
    return Pairs(distances, first, neighbours.index[first, slot], batch.structure[first])


@dataclass(frozen=True, eq=False)
class PairDistributionObjective:
    """½ N ⟨(g(r) − g*(r))²⟩, the mean over the points of the target.

    g_ab(r) = V / (N_a N_b 4π r²) Σ_{i∈a, j∈b} G_s(r − r_ij) with Gaussians G_s of width s: the ideal gas of
    the same density is one, as in `structures.rdf.radial_distribution`.

    Raises UserError when the distances are not equally spaced and positive, or shapes disagree.
    """

    distances_a: Array
    """r, (R,) Å, equally spaced."""
    target: Array
    """g*, (R,)."""
    smearing_a: float = 0.1
    """s, Å."""
    pair: tuple[str, str] | None = None
    """Two elements: their partial g; without, all atoms alike."""
    elements: tuple[str, ...] | None = None
    """Symbols that species count in; needed for a pair."""

    def __post_init__(self) -> None:
        steps = np.diff(self.distances_a)
        spaced = len(steps) > 0 and self.distances_a[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6)
        if np.shape(self.target) != np.shape(self.distances_a) or not spaced or steps[0] <= 0:
            raise UserError(
                "the pair distribution needs equally spaced distances and one value at each",
                got=f"{np.shape(self.distances_a)} distances and {np.shape(self.target)} values",
                fix="give ascending distances in Å above zero",
            )
        if self.pair is not None and not set(self.pair) <= set(self.elements or ()):
            raise UserError("a partial g(r) needs its elements", got=self.pair, fix="name all in elements")

    def pair_distribution(self, batch: Batch) -> Tensor:
        """g at the target's distances, (B, R), differentiable in positions and cells."""
        start, step = float(self.distances_a[0]), float(self.distances_a[1] - self.distances_a[0])
        size = len(self.distances_a)
        reach = int(np.ceil(REACH * self.smearing_a / step))
        pairs = find_pairs(batch, float(self.distances_a[-1]) + reach * step)
        ones, others = self._members(batch)
        chosen = ones[pairs.first] & others[pairs.second] & (pairs.distances > start - reach * step)
        r, structure = pairs.distances[chosen], pairs.structure[chosen]
        # each distance reaches a few points about its own: a padded grid spares the cases at the ends
        middle = torch.round((r.detach() - start) / step).long()
        points = middle[:, None] + torch.arange(-reach, reach + 1, device=r.device)
        gauss = torch.exp(-0.5 * ((start + step * points - r[:, None]) / self.smearing_a) ** 2)
        width = size + 4 * reach
        flat = structure[:, None] * width + points + 2 * reach
        sums = r.new_zeros(batch.size * width).index_add(0, flat.reshape(-1), gauss.reshape(-1))
        counts = sums.reshape(batch.size, width)[:, 2 * reach : 2 * reach + size]
        grid = torch.as_tensor(self.distances_a).to(r)
        shells = 4 * np.pi * grid**2 * self.smearing_a * np.sqrt(2 * np.pi)
        return counts / shells * self._volume_per_pair(batch, ones, others)[:, None]

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`."""
        found = self.pair_distribution(batch)
        difference = found - torch.as_tensor(self.target).to(found)
        return 0.5 * batch.counts * difference.square().mean(-1)

    def _members(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Which atoms are of the first and of the second kind, (N,) bool."""
        if self.pair is None or self.elements is None:
            everyone = torch.ones_like(batch.species, dtype=torch.bool)
            return everyone, everyone
        first, second = (batch.species == self.elements.index(symbol) for symbol in self.pair)
        return first, second

    @staticmethod
    def _volume_per_pair(batch: Batch, ones: Tensor, others: Tensor) -> Tensor:
        """V / (N_a N_b), (B,) Å³."""
        product = torch.linalg.det(batch.cells).abs().new_ones(batch.size)
        for kind in (ones, others):
            product = product * product.new_zeros(batch.size).index_add(0, batch.structure, kind.to(product))
        if bool((product == 0).any()):
            raise ValueError("a structure has no atom of one of the elements")
        return torch.linalg.det(batch.cells).abs() / product


@dataclass(frozen=True, eq=False)
class StructureFactorObjective:
    """½ N ⟨(S(q) − S*(q))²⟩, the mean over the points of the target.

    From the distances up to a cutoff R,

    S(q) = 1 + Σ_{i≠j} b_i b_j w(r_ij) j₀(q r_ij) / (N ⟨b⟩²) − 4π (N/V) ∫₀ᴿ w(r) j₀(qr) r² dr,

    j₀(x) = sin(x)/x: Faber and Ziman's total structure factor (Phil. Mag. 11, 153 (1965)) with the mean
    density, which has no order, taken out. The window w ends the sum at R: Lorch's w = j₀(πr/R) (J. Phys. C
    2, 229 (1969)) without ripples, at the price of peaks broader by about 2π/R, or a plain cutoff w = 1,
    which steps when a pair crosses R. A target has to have gone through the same window.

    The functions of r are cubic splines on one grid, fine enough for the largest q (error below 1e-4): the
    pairs are added up on the grid once for all q.

    Raises UserError when the wave numbers are not positive or shapes disagree.
    """

    wave_numbers: Array
    """q, (Q,) 1/Å."""
    target: Array
    """S*, (Q,)."""
    cutoff_a: float = 8.0
    """R, Å."""
    window: Literal["lorch", "cutoff"] = "lorch"
    weights: Mapping[str, float] | None = None
    """b, the scattering length of each element in any unit; without, all alike."""
    elements: tuple[str, ...] | None = None
    """Symbols that species count in; needed with weights."""

    def __post_init__(self) -> None:
        if np.shape(self.target) != np.shape(self.wave_numbers) or np.min(self.wave_numbers, initial=1) <= 0:
            raise UserError(
                "the structure factor needs positive wave numbers and one value at each",
                got=f"{np.shape(self.wave_numbers)} wave numbers and {np.shape(self.target)} values",
                fix="give q in 1/Å and S(q)",
            )
        if self.weights is not None and set(self.weights) != set(self.elements or ()):
            raise UserError(
                "every element needs its weight", got=sorted(self.weights), fix=f"give {self.elements}"
            )

    def structure_factor(self, batch: Batch) -> Tensor:
        """S at the target's wave numbers, (B, Q), differentiable in positions and cells."""
        pairs = find_pairs(batch, self.cutoff_a)
        b = self._lengths(batch)
        mean = b.new_zeros(batch.size).index_add(0, batch.structure, b) / batch.counts
        step, coefficients = self._splines
        sums = self._deposited(pairs, b[pairs.first] * b[pairs.second], step, len(coefficients), batch.size)
        waves = sums @ torch.as_tensor(coefficients).to(b)
        even = 4 * np.pi * torch.as_tensor(self._even_part).to(b)
        return 1 + waves / (batch.counts * mean**2)[:, None] - batch.number_densities[:, None] * even

    def value(self, batch: Batch) -> Tensor:
        """See `Objective.value`."""
        found = self.structure_factor(batch)
        difference = found - torch.as_tensor(self.target).to(found)
        return 0.5 * batch.counts * difference.square().mean(-1)

    def _lengths(self, batch: Batch) -> Tensor:
        """Scattering length of each atom, (N,)."""
        if self.weights is None or self.elements is None:
            return torch.ones_like(batch.positions[:, 0])
        return batch.positions.new_tensor([self.weights[symbol] for symbol in self.elements])[batch.species]

    @cached_property
    def _splines(self) -> tuple[float, Array]:
        """Grid spacing (Å) and the B-spline coefficients of w(r) j₀(qr) for every q, (M, Q).

        The first coefficient belongs to r = −MARGIN steps.
        """
        step = min(0.05, 0.2 / float(np.max(self.wave_numbers)))
        r = step * np.arange(-MARGIN, np.ceil(self.cutoff_a / step) + MARGIN + 1)
        window = np.sinc(r / self.cutoff_a) if self.window == "lorch" else np.ones_like(r)
        waves = window[:, None] * np.sinc(np.outer(r, self.wave_numbers) / np.pi)
        return step, spline_filter1d(waves, order=3, axis=0, mode="mirror")

    @staticmethod
    def _deposited(pairs: Pairs, weights: Tensor, step: float, size: int, structures: int) -> Tensor:
        """Weights of the pairs times the cubic B-spline of each grid point, summed, (B, M)."""
        place = pairs.distances / step + MARGIN
        first = place.detach().floor()
        t = place - first
        shares = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        values = weights[:, None] * torch.stack(shares, dim=1) / 6
        points = first.long()[:, None] + torch.arange(-1, 3, device=first.device)
        flat = pairs.structure[:, None] * size + points
        sums = values.new_zeros(structures * size).index_add(0, flat.reshape(-1), values.reshape(-1))
        return sums.reshape(structures, size)

    @cached_property
    def _even_part(self) -> Array:
        """∫₀ᴿ w(r) j₀(qr) r² dr, (Q,) Å³, by Gauss and Legendre."""
        nodes, shares = np.polynomial.legendre.leggauss(200)
        r = 0.5 * self.cutoff_a * (nodes + 1)
        window = np.sinc(r / self.cutoff_a) if self.window == "lorch" else np.ones_like(r)
        waves = np.sinc(np.outer(self.wave_numbers, r) / np.pi)
        return np.asarray(waves @ (0.5 * self.cutoff_a * shares * window * r**2))

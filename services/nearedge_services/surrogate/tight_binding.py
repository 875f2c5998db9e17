"""Spectra from a small quantum-mechanical model whose numbers are learnt.

An absorber's unoccupied p states depend on the whole network of bonds in a way that message passing learns
slowly and a minimal-basis Hamiltonian has by construction. One s and three p functions per atom; hopping and
overlap between two atoms follow Slater and Koster, Phys. Rev. 94, 1498 (1954), with learnt radial functions
that the surroundings of both atoms scale; with Löwdin's orthogonalisation

    H' = S^-1/2 H S^-1/2,    H' C = C ε,    I_a(E) = Σ_n (1 − f_n) Σ_{p of a} C_pn² g(E − (ε_n − μ)).
"""

from dataclasses import dataclass

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch, find_neighbours
from nearedge_services.surrogate.eigen import chemical_potential, eigensystem, inverse_root

#: Valence electrons in s and p functions.
VALENCE = {
    symbol: count
    for row in ("Li Be B C N O F", "Na Mg Al Si P S Cl", "K Ca Ga Ge As Se Br", "Rb Sr In Sn Sb Te I")
    for count, symbol in enumerate(row.split(), start=1)
} | {"H": 1}

#: Hopping ends at so many sums of covalent radii (carbon: 3.95 Å).
RANGE = 2.6

#: Kinds of matrix element: ssσ, spσ (s here, p there), ppσ, ppπ.
KINDS = 4

#: First guesses: levels of s and p (eV); overlaps at the bond length, and their decay in bond lengths.
LEVELS_EV = (-13.6, -10.0)
OVERLAPS = (0.50, -0.50, -0.40, 0.28)
DECAY = 0.4
WOLFSBERG = 1.9

#: Nearer than so many bond lengths, functions stop growing.
CLOSEST = 0.6

#: Smearing, eV: of the chemical potential and of the emptiness of the orbitals (1000 K).
KT_POTENTIAL_EV = 0.15
KT_EMPTY_EV = 0.0862

N_RADIAL = 10

#: Atoms of the largest structure: the matrices grow with the square, the time with the cube of the number.
LARGEST = 1500


@dataclass(frozen=True)
class Pairs:
    """Neighbours for hopping, padded: K of each of N atoms.

    index: (N, K) other atom; units: (N, K, 3) direction to it; distances: (N, K) in sums of covalent radii;
    envelope: (N, K), zero where padded and at the end of the range.
    """

    index: Tensor
    units: Tensor
    distances: Tensor
    envelope: Tensor


class TightBinding(nn.Module):
    """Hamiltonian and overlap with learnt numbers; per-atom spectra from their eigenvectors."""

    radii: Tensor
    electrons: Tensor
    centres: Tensor

    def __init__(self, elements: tuple[str, ...], channels: int) -> None:
        super().__init__()
        check_valence(elements)
        s = len(elements)
        radii = [float(covalent_radii[atomic_numbers[element]]) for element in elements]
        self.register_buffer("radii", torch.tensor(radii), persistent=False)
        counts = [float(VALENCE[element]) for element in elements]
        self.register_buffer("electrons", torch.tensor(counts), persistent=False)
        self.register_buffer("centres", torch.linspace(0.65, RANGE, N_RADIAL), persistent=False)
        overlaps = torch.tensor(OVERLAPS)
        first, second = LEVELS_EV
        levels = torch.tensor([first, (first + second) / 2, second, second])
        # in units of 10 eV, so that one learning rate suits all numbers
        self.levels = nn.Parameter((torch.tensor(LEVELS_EV) / 10).repeat(s, 1))
        self.overlaps = nn.Parameter(overlaps.repeat(s, s, 1))
        self.hoppings = nn.Parameter((WOLFSBERG * levels * overlaps / 10).repeat(s, s, 1))
        self.decays = nn.Parameter(torch.full((s, s, 2 * KINDS), DECAY))
        self.shapes = nn.Parameter(torch.zeros(s, s, N_RADIAL, 2 * KINDS))
        self.log_width = nn.Parameter(torch.tensor(0.6).log())
        self.shift_levels = _silent(nn.Linear(channels, 2))
        self.scale_pairs = _silent(nn.Linear(channels, 2 * KINDS))

    def pairs(self, batch: Batch) -> Pairs:
        """Neighbours within the range of hopping. Raises UserError for structures above LARGEST atoms."""
        if int(batch.counts.max()) > LARGEST:
            raise UserError(
                "the structure is too large for this surrogate",
                got=f"{int(batch.counts.max())} atoms",
                fix=f"take at most {LARGEST}, or a surrogate trained with tight_binding: false",
            )
        neighbours = find_neighbours(batch, 2 * RANGE * float(self.radii.max()))
        vectors = neighbours.displacements(batch.positions)
        lengths = (vectors.square().sum(-1) + 1e-4).sqrt()
        radii = self.radii[batch.species]
        distances = lengths / (radii[:, None] + radii[neighbours.index])
        inside = (1 - (distances / RANGE).clamp(max=1.0) ** 2) ** 2
        distances = CLOSEST + nn.functional.softplus(distances - CLOSEST, beta=25.0)
        return Pairs(neighbours.index, vectors / lengths[..., None], distances, inside * neighbours.mask)

    def forward(self, batch: Batch, pairs: Pairs, surroundings: Tensor, energies_ev: Tensor) -> Tensor:
        """Spectra (N, G) at energies (G,) eV from the chemical potential; surroundings: (N, channels).

        Dimensionless: the mean over the atoms of an element in a structure has mean one.
        """
        levels = 10 * (self.levels[batch.species] + 0.1 * self.shift_levels(surroundings))
        hopping, overlap = (self._blocks(t, pairs) for t in self._elements(batch, pairs, surroundings))
        first = torch.cumsum(batch.counts, 0) - batch.counts
        spectra = surroundings.new_zeros(len(surroundings), len(energies_ev))
        for count in torch.unique(batch.counts).tolist():
            rows = torch.nonzero(batch.counts[batch.structure] == count)[:, 0]
            local = pairs.index[rows] - first[batch.structure[rows], None]
            h, s = (_assemble(blocks[rows], local, count) for blocks in (hopping, overlap))
            filled = self.electrons[batch.species[rows]].reshape(-1, count).sum(1)
            states = self._states(h, s, levels[rows].reshape(-1, count, 2), filled, energies_ev)
            spectra = spectra.index_copy(0, rows, states.reshape(len(rows), -1))
        return _scaled(spectra, batch, len(self.radii))

    def _elements(self, batch: Batch, pairs: Pairs, surroundings: Tensor) -> tuple[Tensor, Tensor]:
        """Matrix elements of each pair and kind: hopping (N, K, KINDS) in eV, overlap (N, K, KINDS)."""
        here, there = batch.species[:, None].expand_as(pairs.index), batch.species[pairs.index]
        r = pairs.distances[..., None]
        width = float(self.centres[1] - self.centres[0])
        radial = torch.exp(-0.5 * ((r - self.centres) / width) ** 2)
        if len(self.radii) == 1:  # no table per pair where there is one kind of pair
            shape, decay, strength = self.shapes[0, 0], self.decays[0, 0], self._strength()[0, 0]
            shapes = radial @ shape
        else:
            decay, strength = self.decays[here, there], self._strength()[here, there]
            shapes = (radial[..., None, :] @ self.shapes[here, there])[..., 0, :]
        scale = 0.2 * self.scale_pairs(surroundings)
        scales = 1 + scale[:, None] + scale[pairs.index]
        values = strength * torch.exp(-(r - 1) / decay) * (1 + shapes) * scales * pairs.envelope[..., None]
        hopping, overlap = values.chunk(2, dim=-1)
        return hopping, overlap

    def _strength(self) -> Tensor:
        return torch.cat([10 * self.hoppings, self.overlaps], dim=-1)

    @staticmethod
    def _blocks(values: Tensor, pairs: Pairs) -> Tensor:
        """Slater-Koster blocks (N, K, 4, 4) between s, x, y, z here and there; values: (N, K, KINDS).

        Half of what ``_assemble`` makes symmetric: p here and s there is s and p seen from the other atom.
        """
        ss, sp, sigma, pi = values.unbind(-1)
        units = pairs.units
        outer = units[..., :, None] * units[..., None, :]
        one = torch.eye(3, dtype=units.dtype, device=units.device)
        pp = (sigma - pi)[..., None, None] * outer + pi[..., None, None] * one
        top = torch.cat([ss[..., None], 2 * sp[..., None] * units], dim=-1)[..., None, :]
        return torch.cat([top, torch.cat([torch.zeros_like(units)[..., None], pp], dim=-1)], dim=-2)

    def _states(
        self, hopping: Tensor, overlap: Tensor, levels: Tensor, electrons: Tensor, energies_ev: Tensor
    ) -> Tensor:
        """Spectra (B, n, G), 1/eV up to a constant, of B structures of n atoms; matrices: (B, 4n, 4n)."""
        size, count = levels.shape[:2]
        diagonal = levels[..., [0, 1, 1, 1]].reshape(size, 4 * count)
        one = torch.eye(4 * count, dtype=levels.dtype, device=levels.device)
        root = inverse_root(overlap + one)
        matrix = root @ (hopping + torch.diag_embed(diagonal)) @ root
        energies, vectors = eigensystem(0.5 * (matrix + matrix.mT))
        potential = chemical_potential(energies, electrons, KT_POTENTIAL_EV)
        relative = energies - potential[:, None]
        # orbitals far below the chemical potential are full: they absorb nothing
        first = int((relative.detach() > -16 * KT_EMPTY_EV).int().argmax(1).min())
        relative = relative[:, first:]
        weights = vectors[:, :, first:].reshape(size, count, 4, -1)[:, :, 1:].square().sum(2)
        weights = weights * torch.sigmoid(relative / KT_EMPTY_EV)[:, None]
        lines = torch.exp(-0.5 * ((energies_ev - relative[..., None]) * (-self.log_width).exp()) ** 2)
        return weights @ lines


def check_valence(elements: tuple[str, ...]) -> None:
    """Raise UserError for an element whose valence electrons are not in s and p functions alone."""
    if unknown := sorted(set(elements) - set(VALENCE)):
        raise UserError(
            "a tight-binding surrogate knows elements with s and p valence electrons only",
            got=", ".join(unknown),
            fix="set tight_binding: false in the surrogate's settings",
        )


def _silent(layer: nn.Linear) -> nn.Linear:
    """The same with all weights zero: no effect at the start."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _assemble(blocks: Tensor, others: Tensor, count: int) -> Tensor:
    """Symmetric matrices (B, 4n, 4n) of structures of n = ``count`` atoms, all images of a pair added.

    blocks: (B n, K, 4, 4); others: (B n, K), number of the other atom in its structure.
    """
    rows = torch.arange(len(blocks), device=blocks.device)[:, None] * count
    sums = blocks.new_zeros(len(blocks) * count, 16)
    sums = sums.index_add(0, (rows + others).reshape(-1), blocks.reshape(-1, 16))
    sums = sums.reshape(-1, count, count, 4, 4).permute(0, 1, 3, 2, 4).reshape(-1, 4 * count, 4 * count)
    return 0.5 * (sums + sums.mT)


def _scaled(spectra: Tensor, batch: Batch, n_elements: int) -> Tensor:
    """Spectra (N, G) over their mean (trapezoid) over energies and the atoms of one element in a structure."""
    slot = batch.structure * n_elements + batch.species
    heights = (spectra.sum(1) - 0.5 * (spectra[:, 0] + spectra[:, -1])) / (spectra.shape[1] - 1)
    sums = heights.new_zeros(len(batch.counts) * n_elements)
    counts = sums.index_add(0, slot, torch.ones_like(heights))
    means = sums.index_add(0, slot, heights) / counts.clamp_min(1)
    return spectra / means.clamp_min(1e-6)[slot, None]

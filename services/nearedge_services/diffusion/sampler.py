"""From random positions to structures: stochastic Euler steps down the noise levels."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.diffusion.cell import CellSteps
from nearedge_services.diffusion.moment import Denoiser, Guidance, Moment, Push
from nearedge_services.diffusion.noise import sampling_sigmas
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.diffusion.starts import empty_cells, lattice_start, uniform_start
from nearedge_services.structures.fixed import fixed_atoms
from nearedge_services.structures.material import packing_fraction

__all__ = ["Denoiser", "SamplerSettings", "SamplingError", "empty_cells", "random_start", "sample"]

_FREEZE_PACKING, _FREEZE_SIGMA_A = (0.147, 0.276), (0.15, 0.25)
"""Noise level at which bonds have formed, by packing fraction: of carbon of 1.6 and of 3.0 g/cm³."""


class SamplingError(RuntimeError):
    """Structures whose positions stopped being finite; the others are complete.

    failures: position in the call to the reason; completed: position to structure.
    """

    def __init__(self, failures: dict[int, str], completed: dict[int, Atoms]) -> None:
        super().__init__("; ".join(f"structure {index}: {reason}" for index, reason in failures.items()))
        self.failures = failures
        self.completed = completed

    def __reduce__(self) -> tuple:
        """Rebuild with both parts where the error crosses a process border."""
        return (SamplingError, (self.failures, self.completed))


class _NonFiniteError(Exception):
    """Positions within the running batch of structures that went wrong, and the noise level."""

    def __init__(self, indices: list[int], sigma: float) -> None:
        super().__init__(indices, sigma)
        self.indices = indices
        self.sigma = sigma


def sample(
    prior: Denoiser,
    starts: Sequence[Atoms],
    settings: SamplerSettings,
    seeds: Sequence[int],
    guidance: Guidance | None = None,
) -> list[Atoms]:
    """One structure per start (cell and species; positions count only where its array ``fixed`` is true).

    A structure depends on its own start, seed and guidance scale only, not on what is sampled beside it (up
    to rounding). Positions come back wrapped into the cell, which is the start's unless the settings let
    guidance change its volume. Raises SamplingError, with the finished
    structures in it, when positions become NaN or infinite, and UserError for elements the prior does not
    know.
    """
    if len(seeds) != len(starts):
        raise ValueError(f"{len(seeds)} seeds for {len(starts)} structures")
    if guidance is not None:
        guidance.check(len(starts))
    completed: dict[int, Atoms] = {}
    failures: dict[int, str] = {}
    for chunk in _chunks(starts, settings.max_atoms_per_batch):
        left = chunk
        while left:
            walk = _Walk(prior, [starts[k] for k in left], settings, [seeds[k] for k in left], left)
            try:
                finished = walk.run(guidance)
            except _NonFiniteError as error:
                # start this batch again without them: the others come out as they would have
                for local in error.indices:
                    failures[left[local]] = (
                        f"positions are not finite at a noise level of {error.sigma:.3f} Å"
                    )
                left = [k for local, k in enumerate(left) if local not in error.indices]
                continue
            completed.update(zip(left, finished, strict=True))
            break
    if failures:
        raise SamplingError(failures, completed)
    return [completed[k] for k in range(len(starts))]


def random_start(atoms: Atoms, settings: SamplerSettings, rng: np.random.Generator) -> Atoms:
    """A copy of the cell with its atoms at random places; fixed atoms (see `fixed_atoms`) stay."""
    start = atoms.copy()
    if settings.start == "uniform":
        positions = uniform_start(atoms.cell.array, len(atoms), rng)
    else:
        positions = lattice_start(atoms.cell.array, len(atoms), settings.start_jitter_a, rng)
    fixed = fixed_atoms(atoms)
    positions[fixed] = atoms.positions[fixed]
    start.positions = positions
    return start


def freeze_sigma(atoms: Atoms, settings: SamplerSettings) -> float:
    """Noise level from which on the walk to a structure in this cell is cold, Å."""
    if settings.freeze_sigma is not None:
        return settings.freeze_sigma
    return float(np.interp(packing_fraction(atoms), _FREEZE_PACKING, _FREEZE_SIGMA_A))


class _Walk:
    """One batch on its way down; every structure draws from its own generator."""

    def __init__(
        self,
        prior: Denoiser,
        starts: Sequence[Atoms],
        settings: SamplerSettings,
        seeds: Sequence[int],
        members: Sequence[int],
    ) -> None:
        self.prior = prior
        self.settings = settings
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.starts = [
            random_start(atoms, settings, rng) for atoms, rng in zip(starts, self.generators, strict=True)
        ]
        self.batch = prior.batch(self.starts)
        self.members = torch.as_tensor(list(members), device=self.batch.positions.device)
        fixed = np.concatenate([fixed_atoms(atoms) for atoms in starts])
        self.fixed = torch.as_tensor(fixed, device=self.batch.positions.device)
        self.anchors = self.batch.positions[self.fixed]
        self.cell_steps = self.free_cells() if settings.cell_step else None
        freezes = [freeze_sigma(atoms, settings) for atoms in starts]
        self.freezes = torch.tensor(freezes).to(self.batch.positions)[self.batch.structure, None]

    def free_cells(self) -> CellSteps:
        """Cells that may change. Raises UserError with fixed atoms: their places are in the cell as it is."""
        if len(self.anchors):
            raise UserError(
                "the cell cannot change around fixed atoms",
                got=f"{len(self.anchors)} fixed atoms and cell_step {self.settings.cell_step:g}",
                fix="set cell_step to 0",
            )
        return CellSteps(self.settings.cell_step, self.settings.cell_limit, self.batch.number_densities)

    def amplitudes(self, sigma: float) -> Tensor:
        """Amplitude of the churn's noise at this level for every atom, (N, 1)."""
        hot, cold = self.settings.churn_noise, self.settings.cold_noise
        return torch.where(self.freezes < sigma, hot, cold).to(self.freezes)

    @torch.no_grad()
    def run(self, guidance: Guidance | None) -> list[Atoms]:
        """Walk all noise levels; the structures, wrapped. Raises _NonFiniteError."""
        sigmas = sampling_sigmas(self.settings)
        positions = self.batch.positions
        if len(self.anchors):
            positions = torch.where(
                self.fixed[:, None], positions + float(sigmas[0]) * self.noise(), positions
            )
        for sigma, following in pairwise(sigmas):
            churned = self.churned(float(sigma))
            raised = max(churned**2 - float(sigma) ** 2, 0.0) ** 0.5
            amplitudes = self.amplitudes(float(sigma))
            if raised and amplitudes.any():
                positions = positions + raised * amplitudes * self.noise()
            denoised, strain = self.denoised(positions, churned, guidance)
            given = self.settings.rest
            kept = amplitudes.clamp(max=1.0) if given is None else given
            rest = kept * float(following) / churned * (positions - denoised)
            positions = self.deformed(denoised, strain) + rest
            self.check(positions, float(sigma))
        return self.structures(positions)

    def churned(self, sigma: float) -> float:
        """The noise level after churn, Å."""
        active = self.settings.churn_min < sigma < self.settings.churn_max
        return sigma * (1 + self.settings.churn) if active else sigma

    def denoised(
        self, positions: Tensor, sigma: float, guidance: Guidance | None
    ) -> tuple[Tensor, Tensor | None]:
        """Where the atoms are expected to be (N, 3) Å, guided, with the fixed ones in their places.

        And the strain (B,) that guidance proposes, if any.
        """
        batch = self.batch.with_positions(positions)
        expected = self.prior.denoise(batch, positions.new_full((batch.size,), sigma))
        anchored = self.anchored(expected)
        if guidance is None:
            return anchored, None
        self.check(expected, sigma)
        moment = Moment(
            noisy=batch,
            unguided=expected,
            denoised=batch.with_positions(anchored),
            sigma=sigma,
            prior=self.prior,
            members=self.members,
            variable_cell=self.cell_steps is not None,
        )
        push: Push = guidance.push(moment)
        return self.anchored(anchored + push.shift), push.strain

    def anchored(self, positions: Tensor) -> Tensor:
        """Positions (N, 3) Å with the fixed atoms in their places."""
        return positions.index_put((self.fixed,), self.anchors) if len(self.anchors) else positions

    def deformed(self, denoised: Tensor, strain: Tensor | None) -> Tensor:
        """Denoised positions (N, 3) Å scaled with their cells as far as a step goes; the cells follow."""
        if self.cell_steps is None or strain is None:
            return denoised
        factor = torch.exp(self.cell_steps.taken(torch.nan_to_num(strain)))
        self.batch = replace(self.batch, cells=self.batch.cells * factor[:, None, None])
        return denoised * factor[self.batch.structure, None]

    def noise(self) -> Tensor:
        """Standard normal (N, 3), each structure's part from its own generator."""
        draws = [
            rng.standard_normal((len(a), 3)) for rng, a in zip(self.generators, self.starts, strict=True)
        ]
        return torch.as_tensor(np.concatenate(draws)).to(self.batch.positions)

    def check(self, positions: Tensor, sigma: float) -> None:
        """Raise _NonFiniteError with the structures that have NaN or infinite positions."""
        bad = ~torch.isfinite(positions).all(-1)
        if bool(bad.any()):
            raise _NonFiniteError(self.batch.structure[bad].unique().tolist(), sigma)

    def structures(self, positions: Tensor) -> list[Atoms]:
        """The atoms at these positions, wrapped into their cells."""
        parts = np.split(positions.double().cpu().numpy(), np.cumsum([len(a) for a in self.starts])[:-1])
        cells = self.batch.cells.double().cpu().numpy()
        finished = []
        for atoms, part, cell in zip(self.starts, parts, cells, strict=True):
            structure = atoms.copy()
            if self.cell_steps is not None:
                structure.set_cell(cell)
            structure.positions = part
            structure.wrap()
            finished.append(structure)
        return finished


def _chunks(starts: Sequence[Atoms], max_atoms: int) -> list[list[int]]:
    """Runs of structures with at most `max_atoms` atoms together, one structure at least."""
    chunks: list[list[int]] = []
    filled = 0
    for index, atoms in enumerate(starts):
        if not chunks or filled + len(atoms) > max_atoms:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += len(atoms)
    return chunks

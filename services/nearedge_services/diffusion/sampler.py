"""From random positions to structures: stochastic Euler steps down the noise levels."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_services.diffusion.guidance import Guidance, guided, scales_per_structure
from nearedge_services.diffusion.noise import sampling_sigmas
from nearedge_services.diffusion.settings import SamplerSettings
from nearedge_services.diffusion.starts import empty_cells, lattice_start, uniform_start
from nearedge_services.networks.graph import Batch

__all__ = ["Denoiser", "SamplerSettings", "SamplingError", "empty_cells", "random_start", "sample"]

FIXED = "fixed"
"""Boolean per-atom array of a start: these atoms keep their positions and the others grow around them."""


class Denoiser(Protocol):
    """What the sampler needs of a prior."""

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """Structures as tensors."""
        ...

    def denoise(self, batch: Batch, sigma: Tensor) -> Tensor:
        """Expected clean positions (N, 3) Å; sigma: (B,) Å."""
        ...


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
    to rounding). Positions come back wrapped into the cell. Raises SamplingError, with the finished
    structures in it, when positions become NaN or infinite, and UserError for elements the prior does not
    know.
    """
    if len(seeds) != len(starts):
        raise ValueError(f"{len(seeds)} seeds for {len(starts)} structures")
    scales = scales_per_structure(guidance, len(starts))
    completed: dict[int, Atoms] = {}
    failures: dict[int, str] = {}
    for chunk in _chunks(starts, settings.max_atoms_per_batch):
        left = chunk
        while left:
            walk = _Walk(prior, [starts[k] for k in left], settings, [seeds[k] for k in left])
            try:
                finished = walk.run(guidance, [scales[k] for k in left])
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
    """A copy of the cell with its atoms at random places; atoms in the array ``fixed`` stay."""
    start = atoms.copy()
    if settings.start == "uniform":
        positions = uniform_start(atoms.cell.array, len(atoms), rng)
    else:
        positions = lattice_start(atoms.cell.array, len(atoms), settings.start_jitter_a, rng)
    fixed = atoms.arrays.get(FIXED)
    if fixed is not None:
        positions[fixed.astype(bool)] = atoms.positions[fixed.astype(bool)]
    start.positions = positions
    return start


class _Walk:
    """One batch on its way down; every structure draws from its own generator."""

    def __init__(
        self, prior: Denoiser, starts: Sequence[Atoms], settings: SamplerSettings, seeds: Sequence[int]
    ) -> None:
        self.prior = prior
        self.settings = settings
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.starts = [
            random_start(atoms, settings, rng) for atoms, rng in zip(starts, self.generators, strict=True)
        ]
        self.batch = prior.batch(self.starts)
        fixed = [atoms.arrays.get(FIXED, np.zeros(len(atoms), dtype=bool)).astype(bool) for atoms in starts]
        self.fixed = torch.as_tensor(np.concatenate(fixed), device=self.batch.positions.device)
        self.anchors = self.batch.positions[self.fixed]

    @torch.no_grad()
    def run(self, guidance: Guidance | None, scales: Sequence[float]) -> list[Atoms]:
        """Walk all noise levels; the structures, wrapped. Raises _NonFiniteError."""
        sigmas = sampling_sigmas(self.settings)
        positions = self.batch.positions
        if len(self.anchors):
            positions = torch.where(
                self.fixed[:, None], positions + float(sigmas[0]) * self.noise(), positions
            )
        strengths = positions.new_tensor(scales)
        for sigma, following in pairwise(sigmas):
            churned = self.churned(float(sigma))
            extra = max(churned**2 - float(sigma) ** 2, 0.0) ** 0.5
            if extra:
                positions = positions + extra * self.noise()
            denoised = self.denoised(positions, churned, guidance, strengths)
            positions = denoised + float(following) / churned * (positions - denoised)
            self.check(positions, float(sigma))
        return self.structures(positions)

    def churned(self, sigma: float) -> float:
        """The noise level after churn, Å."""
        active = self.settings.churn_min < sigma < self.settings.churn_max
        return sigma * (1 + self.settings.churn) if active else sigma

    def denoised(
        self, positions: Tensor, sigma: float, guidance: Guidance | None, strengths: Tensor
    ) -> Tensor:
        """Where the atoms are expected to be (N, 3) Å, guided, with the fixed ones in their places."""
        batch = self.batch.with_positions(positions)
        expected = self.prior.denoise(batch, positions.new_full((batch.size,), sigma))
        if guidance is not None:
            self.check(expected, sigma)
            expected = guided(batch.with_positions(expected), sigma, guidance, strengths)
        if len(self.anchors):
            expected = expected.index_put((self.fixed,), self.anchors)
        return expected

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
        finished = []
        for atoms, part in zip(self.starts, parts, strict=True):
            structure = atoms.copy()
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

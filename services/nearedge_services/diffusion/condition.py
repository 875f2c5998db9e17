"""What the prior may be told about a structure's spectrum: a few numbers, and whether there is one at all.

After Ho and Salimans, "Classifier-free diffusion guidance", 2022: one network learns both, because the
condition is left out of a share of the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor, nn

from nearedge_db.errors import UserError
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.labelled import label_grid
from nearedge_services.spectra.target import Target

Array = npt.NDArray[np.float64]

LARGEST_AMOUNT = 4.0
"""Amounts of components level off here, in standard deviations of the training spectra.

A spectrum far from all of them must not drive the network where it was never trained.
"""

LEAST_VARIANCE = 1e-4
"""Components with less of the total variance than this are noise: they are not blown up to unit variance."""


@dataclass(frozen=True)
class ConditionSpace:
    """The spectra a prior was conditioned on: cell means of one absorber on one energy grid."""

    grid: EnergyGrid
    absorber: str


class SpectrumCondition(nn.Module):
    """Cell-mean spectra as amounts of K principal components of the training spectra.

    mean: (G,) 1/eV; components: (K, G) 1/eV, one standard deviation of an amount each; K ≤ G.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, space: ConditionSpace, size: int) -> None:
        super().__init__()
        if size > space.grid.size:
            raise UserError(
                "more spectrum components than grid points", got=size, fix=f"{space.grid.size} at the most"
            )
        self.space = space
        self.register_buffer("mean", torch.zeros(space.grid.size))
        self.register_buffer("components", torch.zeros(size, space.grid.size))

    @property
    def size(self) -> int:
        """Numbers per structure: the amounts and one that is 1 where there is a spectrum."""
        return len(self.components) + 1

    def forward(self, spectrum: Tensor) -> Tensor:
        """Spectra (B, G) 1/eV, area-normalised over the grid, to conditions (B, K + 1).

        A row with NaN is a structure without a spectrum: all zeros.
        """
        if spectrum.shape[-1] != len(self.mean):
            raise ValueError(f"spectra of {spectrum.shape[-1]} points on a grid of {len(self.mean)}")
        given = torch.isfinite(spectrum).all(-1, keepdim=True)
        deviation = torch.where(given, spectrum - self.mean, 0.0)
        amounts = deviation @ self.components.T / self.components.square().sum(-1).clamp_min(1e-30)
        limited = LARGEST_AMOUNT * torch.tanh(amounts / LARGEST_AMOUNT)
        return torch.cat([limited, given.to(limited.dtype)], dim=-1)

    @torch.no_grad()
    def fit(self, spectra: Array, weights: Array) -> None:
        """Take mean and components from spectra (F, G) 1/eV, weighted (F,); rows with NaN do not count.

        Raises UserError with fewer than two spectra.
        """
        given = np.isfinite(spectra).all(axis=1) & (weights > 0)
        if given.sum() < 2:
            raise UserError(
                "too few structures with spectra for a condition on the spectrum",
                got=f"{given.sum()} structures with spectra of all {self.space.absorber} atoms",
                fix="label at least two structures, or set spectrum_components to 0",
            )
        shares = weights[given] / weights[given].sum()
        mean = shares @ spectra[given]
        deviations = (spectra[given] - mean) * np.sqrt(shares)[:, None]
        values, vectors = np.linalg.eigh(deviations.T @ deviations)
        chosen = np.argsort(values)[::-1][: len(self.components)]
        vectors = vectors[:, chosen]
        # eigenvectors have no sign of their own: fix it, so that a seed gives the same prior everywhere
        signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(chosen))])
        least = max(LEAST_VARIANCE * values.sum(), 1e-20)
        spread = np.sqrt(np.maximum(values[chosen], least))
        self.mean.copy_(torch.as_tensor(mean))
        self.components.copy_(torch.as_tensor((vectors * signs * spread).T))

    def of_target(self, target: Target) -> Tensor:
        """The target as a spectrum (G,) 1/eV on the whole grid.

        Where its window ends inside the grid the rest follows from the components: least squares for their
        amounts and the target's scale within the window, with the amounts held near their spread in
        training. Raises UserError for another grid or absorber.
        """
        if (target.grid, target.absorber) != (self.space.grid, self.space.absorber):
            raise UserError(
                "the prior was conditioned on other spectra than the target's",
                got=f"{target.absorber} on {target.grid}",
                fix=f"use {self.space.absorber} on {self.space.grid}",
            )
        intensity = torch.as_tensor(target.intensity).to(self.mean)
        inside = torch.as_tensor(target.mask, device=self.mean.device)
        if bool(inside.all()):
            return intensity
        size = len(self.components)
        columns = torch.cat([intensity[inside][:, None], -self.components[:, inside].T], dim=1).double()
        # ridge at a tenth of the components' own size keeps the amounts from running away
        ridge = 0.1 * self.components[:, inside].double().square().sum(-1).mean().sqrt()
        penalty = torch.zeros(size, size + 1).to(columns)
        penalty[:, 1:] = ridge * torch.eye(size).to(columns)
        wanted = torch.cat([self.mean[inside].double(), columns.new_zeros(size)])
        amounts = torch.linalg.lstsq(torch.cat([columns, penalty]), wanted[:, None]).solution[1:, 0]
        return self.mean + amounts.to(self.mean) @ self.components


def condition_space(frames: Sequence[Atoms], absorber: str | None) -> ConditionSpace:
    """Grid and absorber of labelled frames; without `absorber`, the only element that has spectra.

    Raises UserError when no frame has spectra, frames differ in the grid, or several elements have spectra.
    """
    labelled = [atoms for atoms in frames if "xanes" in atoms.arrays]
    if not labelled:
        raise UserError(
            "a condition on the spectrum needs structures with spectra",
            got="none",
            fix="label them first, or set spectrum_components to 0",
        )
    grid = label_grid(labelled[0])
    for atoms in labelled:
        if label_grid(atoms) != grid:
            raise UserError(
                "structures are on different energy grids", got=label_grid(atoms), fix=f"use {grid}"
            )
    found = sorted({symbol for atoms in labelled for symbol in _with_spectra(atoms)})
    if absorber is None and len(found) != 1:
        raise UserError(
            "it is not clear which element's spectra to condition on",
            got=found,
            fix="name one in spectrum_absorber",
        )
    if absorber is not None and absorber not in found:
        raise UserError("the absorber has no spectra", got=absorber, fix=f"name one of {found}")
    return ConditionSpace(grid, absorber if absorber is not None else found[0])


def condition_spectra(frames: Sequence[Atoms], space: ConditionSpace) -> Array:
    """Cell-mean spectra (F, G) 1/eV, area-normalised over the grid.

    NaN for a frame that has none, has them on another grid, or lacks that of one absorber atom.
    """
    spectra = np.full((len(frames), space.grid.size), np.nan)
    for row, atoms in zip(spectra, frames, strict=True):
        if "xanes" not in atoms.arrays or label_grid(atoms) != space.grid:
            continue
        if space.absorber in _with_spectra(atoms):
            row[:] = cell_mean(atoms.arrays["xanes"], atoms.numbers, space.absorber, space.grid)
    return spectra


def _with_spectra(atoms: Atoms) -> set[str]:
    """Elements all of whose atoms have a spectrum; a row of zeros or with NaN is none."""
    xanes = np.asarray(atoms.arrays["xanes"], dtype=float)
    labelled = np.isfinite(xanes).all(axis=1) & (np.abs(xanes) > 0).any(axis=1)
    symbols = np.array(atoms.get_chemical_symbols())
    return {str(symbol) for symbol in set(symbols) if labelled[symbols == symbol].all()}

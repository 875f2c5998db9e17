"""Spectra from geometry in milliseconds, with an uncertainty that is calibrated.

Example:
    >>> surrogate = Surrogate.load("models/surrogate")                    # doctest: +SKIP
    >>> prediction = surrogate.predict([atoms], target)[0]                # doctest: +SKIP
    >>> prediction.distance, prediction.distance_std                      # doctest: +SKIP
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from pydantic import ValidationError
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.networks.weights import load_config, load_weights, save_weights
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.target import Target
from nearedge_services.surrogate.calibration import (
    Calibration,
    distance_spread,
    expected_distance,
    smoothed,
)
from nearedge_services.surrogate.comparison import TorchTarget, area_normalised, check_grid
from nearedge_services.surrogate.dataset import check_elements
from nearedge_services.surrogate.network import SpectrumNetwork
from nearedge_services.surrogate.settings import SurrogateSettings

Array = npt.NDArray[np.float64]

#: Atoms evaluated at once when no gradient is wanted.
CHUNK_ATOMS = 512


@dataclass(frozen=True)
class DistancePrediction:
    """What the surrogate expects of one structure.

    Attributes:
        distance: expected spectral distance to the target, 1/eV (see ``calibration.expected_distance``).
        distance_std: its calibrated standard deviation, 1/eV.
        cell_mean: (G,) mean over the members of the area-normalised cell-mean spectrum, 1/eV.
        cell_mean_std: (G,) its calibrated standard deviation, 1/eV.
    """

    distance: float
    distance_std: float
    cell_mean: Array
    cell_mean_std: Array


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Ensemble of M networks for the per-atom XANES of one oracle.

    Attributes:
        network: the members and their common basis.
        settings: those of its training.
        elements: elements a structure may hold.
        absorbers: elements with spectra.
        grid: energies of the spectra.
        calibration: turns the scatter of the members into standard deviations.
    """

    network: SpectrumNetwork
    settings: SurrogateSettings
    elements: tuple[str, ...]
    absorbers: tuple[str, ...]
    grid: EnergyGrid
    calibration: Calibration

    #: Held-out metric that decides promotion: lower is better, 1/eV.
    HEADLINE: ClassVar[str] = "cell_mean_rmse"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.means.device

    def to(self, device: torch.device | str) -> "Surrogate":
        """This surrogate, its weights moved there."""
        self.network.to(device)
        return self

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """Structures as tensors on the surrogate's device. Raises UserError for unknown elements."""
        for atoms in structures:
            check_elements(atoms, self.elements)
        return Batch.from_atoms(list(structures), self.elements, device=self.device)

    def cell_means(self, batch: Batch, absorber: str, members: int | None = None) -> Tensor:
        """Cell-mean spectra (M, B, G) in 1/eV, area-normalised over the grid, differentiable in positions.

        ``members``: use only the first so many. Raises UserError when the absorber has no spectra in the
        surrogate or is missing in a structure.
        """
        self._check_absorber(absorber)
        return self._absorber_means(self.network.spectra(batch, members), batch, absorber)

    def noisy_cell_means(self, batch: Batch, sigma: Tensor, absorber: str) -> Tensor:
        """Cell-mean spectra (B, G) in 1/eV expected of the clean structures, given positions with Gaussian
        noise of ``sigma`` (B,) Å; area-normalised, differentiable in the positions.

        Raises UserError when the surrogate has no noise-aware network, or as ``cell_means``.
        """
        network = self.network
        if network.noisy is None:
            raise UserError(
                "this surrogate cannot judge noisy positions",
                got="noise_aware_steps 0",
                fix="train one with noise_aware_steps, e.g. 3000, or guide at the denoised positions",
            )
        self._check_absorber(absorber)
        spectra = network.basis.spectra(network.noisy(batch, sigma), batch.species)
        return self._absorber_means(spectra, batch, absorber)

    def _check_absorber(self, absorber: str) -> None:
        if absorber not in self.absorbers:
            raise UserError(
                "the surrogate has no spectra of this absorber",
                got=absorber,
                fix=f"use one of {list(self.absorbers)}",
            )

    def _absorber_means(self, spectra: Tensor, batch: Batch, absorber: str) -> Tensor:
        """Area-normalised means (…, B, G) over the absorbers, 1/eV, of spectra (…, N, G)."""
        weight = (batch.species == self.elements.index(absorber)).to(batch.positions.dtype)
        counts = weight.new_zeros(len(batch.counts)).index_add(0, batch.structure, weight)
        if bool((counts == 0).any()):
            raise UserError(
                "a structure has no atom of the absorber", got=absorber, fix="choose another absorber"
            )
        # the mean as a matrix product: averaging (M, N, G) rows with index_add is slower
        membership = (
            torch.nn.functional.one_hot(batch.structure, len(counts)).to(weight.dtype) * weight[:, None]
        )
        return area_normalised((membership / counts).T @ spectra, self.grid)

    def mismatch(self, batch: Batch, target: Target, members: int | None = None) -> Tensor:
        """Spectral mismatch per structure (B,), dimensionless, differentiable in the positions.

        ``½ N ‖ȳ − y*‖²`` for N atoms, where ‖·‖² is the mean over the window's grid points of the squared
        difference of spectra scaled to mean one there: ``½ N (W d)²`` for the spectral distance d (1/eV)
        and the width W of the window (eV). 2 to 12 between 64-atom carbon networks 0.5 g/cm³ apart.
        Averaged over the members (default: the settings' ``guidance_members``), which adds their scatter to
        the mismatch of the mean: a guide that follows its gradient stays where they agree.
        """
        check_grid(target, self.grid)
        cell_means = self.cell_means(batch, target.absorber, members or self.settings.guidance_members)
        return _mismatch(cell_means, batch, target).mean(0)

    def noisy_mismatch(self, batch: Batch, sigma: Tensor, target: Target) -> Tensor:
        """``mismatch`` (B,) of the spectra expected of the clean structures, given noisy positions.

        ``sigma``: (B,) Å. Raises UserError when the surrogate has no noise-aware network.
        """
        check_grid(target, self.grid)
        return _mismatch(self.noisy_cell_means(batch, sigma, target.absorber), batch, target)

    def member_cell_means(self, structures: Sequence[Atoms], absorber: str) -> Array:
        """Cell means of every member (M, B, G), 1/eV, without gradients, in chunks."""
        with torch.no_grad():
            parts = [self.cell_means(self.batch(chunk), absorber) for chunk in _chunks(structures)]
        return torch.cat(parts, dim=1).double().cpu().numpy()

    def atom_spectra(self, structures: Sequence[Atoms]) -> list[Array]:
        """Per-atom spectra (M, N, G) of every structure, 1/eV; the cell mean of each element has unit
        area.
        """
        spectra: list[Array] = []
        for chunk in _chunks(structures):
            batch = self.batch(chunk)
            with torch.no_grad():
                values = self.network.spectra(batch).double().cpu().numpy() / self.grid.weights.sum()
            spectra += np.split(values, np.cumsum(batch.counts.cpu().numpy())[:-1], axis=1)
        return spectra

    def predict(self, structures: Sequence[Atoms], target: Target) -> list[DistancePrediction]:
        """Calibrated spectral distance and cell-mean spectrum of each structure.

        Raises UserError for another energy grid, an unknown absorber or element.
        """
        check_grid(target, self.grid)
        if not structures:
            return []
        means = self.member_cell_means(structures, target.absorber)
        mean, spread = means.mean(0), smoothed(means.std(0, ddof=1))
        std = self.calibration.spectrum.std(spread)
        variance = np.mean(std[:, target.mask] ** 2, axis=-1)
        distance = expected_distance(target.distance(mean), variance, self.calibration.excess)
        of_members = distance_spread(target.distance(means).std(0, ddof=1), spread)
        distance_std = self.calibration.distance.std(of_members)
        return [
            DistancePrediction(float(distance[i]), float(distance_std[i]), mean[i], std[i])
            for i in range(len(mean))
        ]

    def save(self, folder: str | Path) -> None:
        """Write ``weights.safetensors`` and ``config.json``."""
        config = {
            "kind": "surrogate",
            "settings": self.settings.model_dump(),
            "elements": list(self.elements),
            "absorbers": list(self.absorbers),
            "grid": asdict(self.grid),
            "calibration": self.calibration.model_dump(),
        }
        save_weights(folder, self.network, config)

    @classmethod
    def load(cls, folder: str | Path) -> "Surrogate":
        """Read what ``save`` wrote. Raises UserError when it is missing or not a surrogate."""
        config = load_config(folder)
        if config.get("kind") != "surrogate":
            raise UserError(
                "this folder holds another kind of model", got=config.get("kind"), fix="name a surrogate"
            )
        try:
            # a config that does not name tight binding was written before there was any
            settings = SurrogateSettings(**{"tight_binding": False} | config["settings"])
            calibration = Calibration(**config["calibration"])
            grid = EnergyGrid(**config["grid"])
            elements, absorbers = tuple(config["elements"]), tuple(config["absorbers"])
        except (KeyError, TypeError, ValidationError) as error:
            raise UserError(
                "the surrogate's config.json is damaged", got=error, fix="train or copy it again"
            ) from error
        network = SpectrumNetwork(settings, elements, grid)
        load_weights(folder, network)
        return cls(network.eval(), settings, elements, absorbers, grid, calibration)


def _mismatch(cell_means: Tensor, batch: Batch, target: Target) -> Tensor:
    """½ N (W d)² (…, B) of cell means (…, B, G)."""
    comparison = TorchTarget(target, cell_means)
    return 0.5 * batch.counts * comparison.width_ev**2 * comparison.square(cell_means)


def _chunks(structures: Sequence[Atoms]) -> Iterator[list[Atoms]]:
    """Runs of structures of at most CHUNK_ATOMS atoms (one structure at least)."""
    chunk: list[Atoms] = []
    for atoms in structures:
        if chunk and sum(map(len, chunk)) + len(atoms) > CHUNK_ATOMS:
            yield chunk
            chunk = []
        chunk.append(atoms)
    if chunk:
        yield chunk

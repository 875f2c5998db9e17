"""The prior: a network that takes noise off atomic positions.

Example:
    >>> prior = Prior.load("models/prior")                                              # doctest: +SKIP
    >>> cells = empty_cells(parse_composition("C64"), [2.6])                            # doctest: +SKIP
    >>> structures = sample(prior, cells, SamplerSettings(), seeds=[0])                 # doctest: +SKIP
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from ase import Atoms
from torch import Tensor, nn

from nearedge_db.errors import UserError
from nearedge_services.diffusion.condition import ConditionSpace, SpectrumCondition
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.networks.graph import Batch, find_neighbours, mean_by_structure
from nearedge_services.networks.painn import PaiNN, PaiNNConfig
from nearedge_services.networks.weights import load_config, load_weights, save_weights
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.target import Target

N_CONDITIONS = 6


class Prior(nn.Module):
    """Denoiser of periodic structures, conditioned on noise level and density, and on a spectrum if it learnt to.

    The network predicts F in D(x, σ) = x + σ F: the noise in units of its own size, of order one at every
    level.
    """

    #: Held-out metric that decides promotion: lower is better.
    HEADLINE: ClassVar[str] = "denoising_loss"

    def __init__(
        self, elements: Sequence[str], settings: PriorSettings, space: ConditionSpace | None = None
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)
        self.settings = settings
        if (space is not None) != bool(settings.spectrum_components):
            raise ValueError(f"{settings.spectrum_components=} with the condition space {space}")
        self.condition = SpectrumCondition(space, settings.spectrum_components) if space else None
        config = PaiNNConfig(
            n_species=len(self.elements),
            n_scalar=settings.n_scalar,
            n_vector=settings.n_vector,
            n_radial=settings.n_radial,
            n_layers=settings.n_layers,
            cutoff=settings.cutoff_a,
            n_conditions=N_CONDITIONS + (self.condition.size if self.condition else 0),
        )
        self.backbone = PaiNN(config)
        self.gate = nn.Sequential(
            nn.Linear(config.n_scalar, config.n_scalar),
            nn.SiLU(),
            nn.Linear(config.n_scalar, config.n_vector),
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.backbone.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self.backbone.embedding.weight.dtype

    def batch(self, structures: Sequence[Atoms]) -> Batch:
        """Structures as tensors on the prior's device. Raises UserError for unknown elements."""
        return Batch.from_atoms(structures, self.elements, device=self.device, dtype=self.dtype)

    @property
    def grid(self) -> EnergyGrid | None:
        """Energies of the spectra it can be conditioned on; None for an unconditional prior."""
        return self.condition.space.grid if self.condition else None

    def direction(self, batch: Batch, sigma: Tensor, spectrum: Tensor | None = None) -> Tensor:
        """F (N, 3), dimensionless: the way back per Å of noise; sigma: (B,) Å.

        spectrum: (B, G) cell means in 1/eV on `grid`, area-normalised over it; a row with NaN, or None,
        means no spectrum. The mean of F over a structure is zero. Raises UserError for a spectrum when the
        prior learnt none.
        """
        neighbours = find_neighbours(batch, self.settings.cutoff_a)
        conditions = self._conditions(batch, sigma, spectrum)
        scalars, vectors = self.backbone(batch, neighbours, conditions)
        direction = (vectors * self.gate(scalars)[:, None]).sum(-1)
        # a translation of the whole structure is no noise: nothing could tell it
        return direction - mean_by_structure(direction, batch)[batch.structure]

    def denoise(self, batch: Batch, sigma: Tensor, spectrum: Tensor | None = None) -> Tensor:
        """Expected clean positions (N, 3) Å of noisy ones; sigma: (B,) Å; spectrum as in `direction`."""
        return batch.positions + sigma[batch.structure, None] * self.direction(batch, sigma, spectrum)

    def spectrum_of(self, target: Target) -> Tensor:
        """The target as a spectrum (G,) 1/eV on `grid`, see `SpectrumCondition.of_target`.

        Raises UserError when the prior learnt no spectra, or others.
        """
        return self._learnt().of_target(target)

    def _learnt(self) -> SpectrumCondition:
        if self.condition is None:
            raise UserError(
                "the prior was trained without a condition on the spectrum",
                got="spectrum_components 0",
                fix="train one with --set spectrum_components=8, or steer by the surrogate's gradient",
            )
        return self.condition

    def _conditions(self, batch: Batch, sigma: Tensor, spectrum: Tensor | None) -> Tensor:
        """Conditions of each structure (B, n_conditions)."""
        noise = noise_conditions(batch, sigma)
        if spectrum is not None:
            return torch.cat([noise, self._learnt()(spectrum.to(noise))], dim=-1)
        return torch.nn.functional.pad(noise, (0, self.condition.size)) if self.condition else noise

    def save(self, folder: str | Path) -> Path:
        """Write ``weights.safetensors`` and ``config.json`` into `folder`."""
        config = {
            "kind": "prior",
            "elements": list(self.elements),
            "settings": self.settings.model_dump(),
            "network": asdict(self.backbone.config),
            "condition": asdict(self.condition.space) if self.condition else None,
        }
        return save_weights(folder, self, config)

    @classmethod
    def load(cls, folder: str | Path) -> "Prior":
        """Read what `save` wrote. Raises UserError when it is missing, damaged or not a prior."""
        config = load_config(folder)
        if config.get("kind") != "prior":
            raise UserError(
                "this folder holds another kind of model", got=config.get("kind"), fix="name a prior"
            )
        try:
            settings = PriorSettings(**config["settings"])
            elements = tuple(config["elements"])
            space = _space(config.get("condition"))  # priors of older versions have none
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "the prior's config.json is damaged", got=error, fix="train or copy it again"
            ) from error
        return load_weights(folder, cls(elements, settings, space)).eval()


def _space(saved: dict[str, Any] | None) -> ConditionSpace | None:
    if saved is None:
        return None
    return ConditionSpace(EnergyGrid(**saved["grid"]), str(saved["absorber"]))


def noise_conditions(batch: Batch, sigma: Tensor) -> Tensor:
    """Smooth functions of log σ and of the number density, (B, N_CONDITIONS), each of order one."""
    level = torch.log(sigma / 0.2)
    crowding = 2 * torch.log(batch.number_densities / 0.12)
    waves = [wave(math.pi / period * level) for period in (4.0, 2.0) for wave in (torch.sin, torch.cos)]
    return torch.stack([level, crowding, *waves], dim=-1).to(batch.positions.dtype)

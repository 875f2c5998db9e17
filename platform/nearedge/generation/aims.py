"""What a generation is pulled towards, how, and how strongly."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge.generation.models import ModelFolders
    from nearedge_services.diffusion.guidance import Guidance
    from nearedge_services.spectra.grid import EnergyGrid
    from nearedge_services.spectra.spectrum import Spectrum
    from nearedge_services.spectra.target import Target
    from nearedge_services.surrogate.surrogate import Surrogate


class GuidanceKind(StrEnum):
    """How a spectrum guides."""

    SURROGATE = "surrogate"
    """Gradient of the surrogate's mismatch at the denoised positions."""
    NOISE_AWARE = "noise-aware"
    """Gradient of a surrogate that knows noise, at the noisy positions."""
    CLASSIFIER_FREE = "classifier-free"
    """The prior's own condition on the spectrum, exaggerated."""
    BOTH = "both"
    """The prior's own condition (weight 1) and the surrogate's gradient (of the scale)."""

    @property
    def default_scale(self) -> float:
        """Strength when nothing is said: beyond, structures pay for the spectrum."""
        return 2.0 if self is GuidanceKind.CLASSIFIER_FREE else 10.0


@dataclass(frozen=True)
class Aim:
    """A target and how it guides; scale 0: it only judges."""

    target: "Target"
    kind: GuidanceKind
    scale: float

    @property
    def guides(self) -> bool:
        """Whether structures are pulled towards the target at all."""
        return self.scale > 0

    def content(self) -> dict[str, Any]:
        """What of it decides a structure, JSON-able."""
        return {
            "intensity": [round(float(value), 12) for value in self.target.intensity],
            "window_ev": list(self.target.window_ev),
            "grid": [self.target.grid.start_ev, self.target.grid.stop_ev, self.target.grid.step_ev],
            "absorber": self.target.absorber,
            "kind": str(self.kind),
            "scale": self.scale,
        }


def make_aim(
    target: Any,
    models: "ModelFolders",
    cell: "Atoms",
    absorber: str | None,
    kind: GuidanceKind,
    scale: float | None,
) -> Aim | None:
    """The aim of a generation; None without a target.

    Raises UserError for a target that cannot be read, an absorber that is not clear or not there, and models
    that cannot guide in this way.
    """
    if target is None:
        return None
    surrogate = models.loaded_surrogate
    surrogate.batch([cell])
    _check_size(surrogate, cell)
    read = read_target(target, surrogate.grid, find_absorber(surrogate, cell, absorber))
    aim = Aim(read, kind, kind.default_scale if scale is None else float(scale))
    if aim.guides:
        _check_models(aim, models)
    return aim


def _check_size(surrogate: "Surrogate", cell: "Atoms") -> None:
    """Raise UserError for a cell that the surrogate cannot judge."""
    from nearedge_services.surrogate.tight_binding import LARGEST

    if surrogate.settings.tight_binding and len(cell) > LARGEST:
        raise UserError(
            "the cell is too large for the surrogate, and so for a target",
            got=f"{len(cell)} atoms",
            fix=f"take at most {LARGEST}, leave the target out, or train a surrogate with tight_binding: false",
        )


def _check_models(aim: Aim, models: "ModelFolders") -> None:
    """Raise UserError for models that cannot guide in this way."""
    if aim.kind in {GuidanceKind.CLASSIFIER_FREE, GuidanceKind.BOTH}:
        models.loaded_prior.spectrum_of(aim.target)
    if aim.kind is GuidanceKind.NOISE_AWARE and not models.loaded_surrogate.settings.noise_aware_steps:
        raise UserError(
            "the surrogate cannot judge noisy positions",
            got=f"guidance {aim.kind}",
            fix=f"train one with noise_aware_steps, or use {GuidanceKind.SURROGATE}",
        )


def read_kind(kind: str) -> GuidanceKind:
    """The kind of that name; UserError for another."""
    try:
        return GuidanceKind(kind)
    except ValueError as error:
        raise UserError(
            "there is no such kind of guidance", got=kind, fix=f"use one of {', '.join(GuidanceKind)}"
        ) from error


def check_scale(scale: float | None, has_target: bool) -> None:
    """Raise UserError for a strength without a target, a negative one, NaN or infinity; None is no strength."""
    if scale is None:
        return
    if not has_target:
        raise UserError(
            "guidance needs a spectrum to aim at", got=f"guidance {scale:g}", fix="give a target, T.csv"
        )
    if not (isfinite(scale) and scale >= 0):
        raise UserError(
            "the guidance must be a number of zero or more",
            got=f"guidance {scale:g}",
            fix=f"try {GuidanceKind.SURROGATE.default_scale:g}",
        )


def find_absorber(surrogate: "Surrogate", cell: "Atoms", absorber: str | None) -> str:
    """The element of the target's edge: the one named, or the only one that can be meant. Raises UserError."""
    present = [symbol for symbol in surrogate.absorbers if symbol in cell.get_chemical_symbols()]
    element = absorber or (present[0] if len(present) == 1 else None)
    if element is None:
        raise UserError(
            "it is not clear whose edge the target is",
            got=", ".join(present) or "no element that the surrogate has spectra of",
            fix="name the absorber",
        )
    if element not in present:
        raise UserError(
            "the absorber is not in the cell, or the surrogate has no spectra of it",
            got=element,
            fix=f"use one of {', '.join(present) or 'its elements: ' + ', '.join(surrogate.absorbers)}",
        )
    return element


def read_target(target: Any, grid: "EnergyGrid", absorber: str) -> "Target":
    """A target from a `Target`, a `Spectrum`, the path of one, or an array.

    An array is (P, 2), energies in eV on the oracle's axis and intensities, or (G,), intensities on the
    surrogate's grid. Raises UserError for a target of another absorber or anything that is no spectrum.
    """
    from nearedge_services.spectra.reading import read_spectrum
    from nearedge_services.spectra.spectrum import Spectrum
    from nearedge_services.spectra.target import Target

    if isinstance(target, Target):
        if target.absorber != absorber:
            raise UserError("the target is of another element", got=target.absorber, fix=f"use {absorber}")
        return target
    if isinstance(target, str | Path):
        spectrum = read_spectrum(target)
    elif isinstance(target, Spectrum):
        spectrum = target
    else:
        spectrum = _spectrum_of_array(target, grid)
    return Target.from_spectrum(spectrum, grid, absorber)


def _spectrum_of_array(values: Any, grid: "EnergyGrid") -> "Spectrum":
    from nearedge_services.spectra.spectrum import Spectrum

    try:
        array: npt.NDArray[np.float64] = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise UserError(
            "the target is no spectrum", got=type(values).__name__, fix="give a path or an array"
        ) from error
    if array.shape == (grid.size,):
        return Spectrum(grid.energies, array)
    if array.ndim == 2 and array.shape[1] == 2:
        return Spectrum(array[:, 0], array[:, 1])
    raise UserError(
        "the target has the wrong shape",
        got=array.shape,
        fix=f"give (P, 2), energies in eV and intensities, or ({grid.size},) on the surrogate's grid",
    )


def make_guidance(aim: Aim, models: "ModelFolders") -> "Guidance":
    """The guidance of an aim that guides."""
    from nearedge_services.diffusion.guidance import (
        ClassifierFreeGuidance,
        CombinedGuidance,
        NoiseAwareGuidance,
        SpectrumGuidance,
    )

    match aim.kind:
        case GuidanceKind.SURROGATE:
            return SpectrumGuidance(models.loaded_surrogate, aim.target, aim.scale)
        case GuidanceKind.NOISE_AWARE:
            return NoiseAwareGuidance(models.loaded_surrogate, aim.target, aim.scale)
        case GuidanceKind.CLASSIFIER_FREE:
            return ClassifierFreeGuidance(aim.target, aim.scale)
        case GuidanceKind.BOTH:
            told = ClassifierFreeGuidance(aim.target, 1.0)
            return CombinedGuidance([told, SpectrumGuidance(models.loaded_surrogate, aim.target, aim.scale)])

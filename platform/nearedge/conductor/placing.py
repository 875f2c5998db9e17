"""Where the target lies on the energies of the second oracle, and which starting structures tell."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nearedge.config import CampaignConfig
from nearedge_db.errors import UserError
from nearedge_services.spectra.align import LEAST_WINDOW_EV, ROOM_EV, align, edge_onset
from nearedge_services.spectra.distance import area_normalised
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

Array = npt.NDArray[np.float64]

LEAST_STARTS_LABELLED = 3
"""Spectra of the second oracle without which nothing tells where its edge lies."""

WIDEST_WINDOW_EV = 22.0
"""Longest window: from the second oracle's first energy, as far as a spectrum says something of the structure."""

BELOW_EV = 10.0
"""A spectrum on a theory's axis has no intensity below its first energy: so far down that is made explicit."""


def spread_over(densities: Mapping[int, float], best: int, count: int) -> list[int]:
    """``count`` of the structures (id -> density): ``best``, and others evenly over the order of the densities."""
    rest = sorted((key for key in densities if key != best), key=lambda key: (densities[key], key))
    places = np.linspace(0, len(rest) - 1, min(count - 1, len(rest))).round()
    return [best, *(rest[int(place)] for place in places)]


def place_target(
    config: CampaignConfig,
    spectrum: Spectrum,
    grid: EnergyGrid,
    theory: Sequence[Array],
    absorber: str,
) -> Target:
    """The campaign's spectrum on the second oracle's ``grid``: one rigid shift against its cell means, each (G,).

    Without a shift where ``confirm.align`` says that the file has the oracle's own energies. Raises UserError where
    there are too few spectra, the shift cannot be told, or spectrum and grid share too little.
    """
    if config.confirm is not None and not config.confirm.align:
        return Target.from_spectrum(spectrum, grid, absorber)
    if len(theory) < LEAST_STARTS_LABELLED:
        raise UserError(
            "too few starting structures have a label of the second oracle to place the target on its energies",
            got=len(theory),
            fix=f"{LEAST_STARTS_LABELLED} or more are needed",
        )
    clean = spectrum if config.target.align else _padded(spectrum, grid.step_ev)
    if config.target.pre_edge_ev is not None:
        clean = clean.without_background(config.target.pre_edge_ev)
    mean = area_normalised(np.array(theory), grid.weights).mean(axis=0)
    guess = edge_onset(clean.energies_ev, clean.intensity) - edge_onset(grid.energies, mean)
    window = _window(clean, grid, guess)
    alignment, aligned = align(clean, theory, grid, guess_ev=guess, window_ev=window)
    return Target.from_spectrum(aligned, grid, absorber, window, alignment)


def _padded(spectrum: Spectrum, step_ev: float) -> Spectrum:
    low = spectrum.energies_ev[0] - np.arange(round(BELOW_EV / step_ev), 0, -1) * step_ev
    return Spectrum(
        np.concatenate([low, spectrum.energies_ev]),
        np.concatenate([np.zeros(len(low)), spectrum.intensity]),
        (*spectrum.history, f"zero for {BELOW_EV:g} eV below its first energy"),
    )


def _window(spectrum: Spectrum, grid: EnergyGrid, guess_ev: float) -> tuple[float, float]:
    """What the spectrum covers of the grid with room for shifts around the guess, eV on the grid's axis."""
    first, last = spectrum.range_ev
    low = max(grid.start_ev, first - guess_ev + ROOM_EV)
    high = min(grid.stop_ev, last - guess_ev - ROOM_EV, low + WIDEST_WINDOW_EV)
    if high - low < LEAST_WINDOW_EV:
        raise UserError(
            "the target is too short to be placed on the energies of the second oracle",
            got=f"{first:g} to {last:g} eV with its edge at {guess_ev:.1f} eV on a grid from {grid.start_ev:g} eV",
            fix="give a longer spectrum, or a second oracle with more energies",
        )
    return low, high

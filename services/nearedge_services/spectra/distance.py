"""Cell-mean spectra and the distance between them."""

import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid

Array = npt.NDArray[np.float64]


def window_mask(grid: EnergyGrid, window_ev: tuple[float, float] | None = None) -> npt.NDArray[np.bool_]:
    """Grid points inside the window (both ends belong to it), shape (G,); the whole grid without one.

    Raises UserError when fewer than two points are inside.
    """
    low, high = window_ev if window_ev is not None else (grid.start_ev, grid.stop_ev)
    mask = (grid.energies >= low - 1e-9) & (grid.energies <= high + 1e-9)
    if mask.sum() < 2:
        raise UserError(
            "the window holds fewer than two points of the energy grid",
            got=f"{low:g} to {high:g} eV on a grid from {grid.start_ev:g} to {grid.stop_ev:g} eV",
            fix="widen it",
        )
    return mask


def window_weights(grid: EnergyGrid, mask: npt.NDArray[np.bool_]) -> Array:
    """Trapezoid weights in eV of a contiguous window, zero outside, shape (G,)."""
    inside = np.flatnonzero(mask)
    weights = np.where(mask, grid.step_ev, 0.0)
    weights[inside[[0, -1]]] /= 2
    return weights


def area_normalised(intensity: npt.ArrayLike, weights: Array) -> Array:
    """Spectra (…, G) divided by their area over the window that the weights (G,) describe, in 1/eV.

    Raises ValueError when an area is not positive: such a spectrum has no shape to compare.
    """
    intensity = np.asarray(intensity, dtype=float)
    area = intensity @ weights
    if not np.all(area > 0):
        raise ValueError(f"a spectrum without positive area in the window: smallest area {np.min(area):g}")
    return intensity / area[..., None]


def spectral_distance(
    a: npt.ArrayLike, b: npt.ArrayLike, grid: EnergyGrid, window: tuple[float, float] | None = None
) -> npt.NDArray[np.float64]:
    """Root mean square difference in 1/eV of spectra (…, G), each area-normalised over the window.

    Leading axes broadcast. The mean is over the grid points inside ``window`` (eV on the grid's axis).
    Raises ValueError when a spectrum has no positive area there.
    """
    mask = window_mask(grid, window)
    weights = window_weights(grid, mask)
    difference = (area_normalised(a, weights) - area_normalised(b, weights))[..., mask]
    return np.sqrt(np.mean(difference**2, axis=-1))


def cell_mean(xanes: npt.ArrayLike, numbers: npt.ArrayLike, absorber: str, grid: EnergyGrid) -> Array:
    """Mean spectrum of the absorbers, area-normalised over the whole grid, shape (G,), 1/eV.

    ``xanes`` is (N, G) per-atom intensity and ``numbers`` (N,) atomic numbers. Raises ValueError when there
    is no absorber, the shapes disagree or the area is not positive.
    """
    rows = np.asarray(xanes, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != grid.size:
        raise ValueError(f"xanes has the shape {rows.shape}, the grid has {grid.size} points")
    absorbers = np.asarray(numbers) == atomic_numbers[absorber]
    if not absorbers.any():
        raise ValueError(f"no {absorber} atom among the absorbers")
    return area_normalised(rows[absorbers].mean(axis=0), grid.weights)

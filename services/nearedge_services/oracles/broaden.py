"""Calculated curves on an oracle's energy axis."""

import numpy as np
import numpy.typing as npt

from nearedge_services.oracles.errors import OracleCrash, UnfitSettings
from nearedge_services.spectra.grid import EnergyGrid

Array = npt.NDArray[np.float64]

_REACH = 8
_NEGATIVE = 1e-3


def broadened_on(grid: EnergyGrid, energies_ev: Array, intensity: Array, sigma_ev: float) -> Array:
    """A curve (E,) on unequal, ascending energies, broadened by a Gaussian and of unit area on the grid (G,), 1/eV.

    Between its points the curve is straight, below the first it is constant. Raises UnfitSettings where it begins above
    the grid, and OracleCrash where it ends below the grid's last energy, is not finite, is negative by more than a
    thousandth of its maximum, or has no area.
    """
    if not (np.isfinite(intensity).all() and np.isfinite(energies_ev).all()):
        raise OracleCrash("the spectrum is not finite")
    if energies_ev[0] >= grid.stop_ev:
        raise UnfitSettings(
            f"the spectrum begins at {energies_ev[0]:.1f} eV, above the window's end at {grid.stop_ev:.1f}: "
            "choose another zero of the energies"
        )
    if energies_ev[-1] < grid.stop_ev:
        raise OracleCrash(
            f"the spectrum ends at {energies_ev[-1]:.1f} eV, below the window's {grid.stop_ev:.1f}"
        )
    if intensity.min() < -_NEGATIVE * intensity.max() or intensity.max() <= 0:
        raise OracleCrash(f"the spectrum is negative: {intensity.min():.3g} of {intensity.max():.3g}")
    margin, step = _REACH * sigma_ev, min(grid.step_ev, sigma_ev) / 5
    fine = np.arange(grid.start_ev - margin, grid.stop_ev + margin + step, step)
    kernel = np.exp(-0.5 * ((grid.energies[:, None] - fine) / sigma_ev) ** 2)
    smooth = (kernel / kernel.sum(axis=1, keepdims=True)) @ np.interp(
        fine, energies_ev, np.clip(intensity, 0, None)
    )
    return smooth / (grid.weights @ smooth)

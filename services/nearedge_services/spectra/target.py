"""What a campaign aims at: a measured or given spectrum, aligned, on the oracle's energy grid."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nearedge_db.errors import UserError
from nearedge_services.spectra.align import Alignment
from nearedge_services.spectra.distance import area_normalised, window_mask, window_weights
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum

Array = npt.NDArray[np.float64]

LEAST_OVERLAP_EV = 5.0
"""A window narrower than this holds too little of an edge to tell structures apart."""


@dataclass(frozen=True, eq=False)
class Target:
    """The aligned target: (G,) intensity in 1/eV, area one over its window and zero outside."""

    grid: EnergyGrid
    intensity: Array
    """Shape (G,), 1/eV."""
    mask: npt.NDArray[np.bool_]
    """Grid points in the window, shape (G,)."""
    absorber: str
    """Element symbol."""
    window_ev: tuple[float, float]
    """First and last grid energy in the window, eV."""
    alignment: Alignment | None = None
    """How the energy axis was matched to theory; None when it was given on the oracle's axis."""
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.intensity.shape == self.mask.shape == (self.grid.size,)):
            raise ValueError(
                f"shapes {self.intensity.shape}, {self.mask.shape} for a grid of {self.grid.size}"
            )
        inside = np.flatnonzero(self.mask)
        if inside.size < 2 or inside[-1] - inside[0] + 1 != inside.size:
            raise ValueError("the window must be one contiguous piece of the grid, two points or more")

    @classmethod
    def from_spectrum(
        cls,
        spectrum: Spectrum,
        grid: EnergyGrid,
        absorber: str,
        window_ev: tuple[float, float] | None = None,
        alignment: Alignment | None = None,
    ) -> "Target":
        """Interpolate a spectrum on the oracle's energy axis onto its grid, area-normalised over the window.

        The window defaults to what spectrum and grid share. Raises UserError when they share less than 5
        eV, when a given window reaches outside either, or when the area in the window is not positive.
        """
        mask = window_mask(grid, _window(spectrum, grid, window_ev))
        inside = grid.energies[mask]
        low, high = float(inside[0]), float(inside[-1])
        on_grid = spectrum.on(inside).normalised()
        intensity = np.zeros(grid.size)
        intensity[mask] = on_grid.intensity
        return cls(grid, intensity, mask, absorber, (low, high), alignment, on_grid.history)

    @cached_property
    def weights(self) -> Array:
        """Trapezoid weights of the window in eV, zero outside, shape (G,)."""
        return window_weights(self.grid, self.mask)

    def distance(self, cell_means: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Root mean square difference in 1/eV from spectra (…, G), each renormalised over the window.

        The result has the leading axes. Raises ValueError when one has no positive area in the window.
        """
        difference = (area_normalised(cell_means, self.weights) - self.intensity)[..., self.mask]
        return np.sqrt(np.mean(difference**2, axis=-1))

    def to_arrays(self) -> dict[str, npt.NDArray]:
        """Arrays to store: ``intensity`` (G,), ``mask`` (G,) and ``metadata``, a 0-d JSON text."""
        metadata = {
            "grid": asdict(self.grid),
            "absorber": self.absorber,
            "window_ev": list(self.window_ev),
            "alignment": None if self.alignment is None else self.alignment.to_json(),
            "history": list(self.history),
        }
        return {"intensity": self.intensity, "mask": self.mask, "metadata": np.array(json.dumps(metadata))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray]) -> "Target":
        """The target that `to_arrays` stored."""
        metadata = json.loads(str(arrays["metadata"]))
        low, high = metadata["window_ev"]
        alignment = metadata["alignment"]
        return cls(
            grid=EnergyGrid(**metadata["grid"]),
            intensity=np.asarray(arrays["intensity"], dtype=float),
            mask=np.asarray(arrays["mask"], dtype=bool),
            absorber=metadata["absorber"],
            window_ev=(low, high),
            alignment=None if alignment is None else Alignment.from_json(alignment),
            history=tuple(metadata["history"]),
        )


def _window(
    spectrum: Spectrum, grid: EnergyGrid, window_ev: tuple[float, float] | None
) -> tuple[float, float]:
    """The window in eV: the one asked for, or all that spectrum and grid share."""
    first, last = spectrum.range_ev
    low, high = max(first, grid.start_ev), min(last, grid.stop_ev)
    ranges = f"spectrum {first:g} to {last:g} eV, oracle {grid.start_ev:g} to {grid.stop_ev:g} eV"
    if high - low < LEAST_OVERLAP_EV:
        raise UserError(
            "the spectrum has no overlap with the oracle's window", got=ranges, fix="set target.align"
        )
    if window_ev is None:
        return low, high
    if (
        window_ev[0] < low - 1e-9
        or window_ev[1] > high + 1e-9
        or window_ev[1] - window_ev[0] < LEAST_OVERLAP_EV
    ):
        raise UserError(
            f"the window {window_ev[0]:g} to {window_ev[1]:g} eV does not fit",
            got=ranges,
            fix=f"choose at least {LEAST_OVERLAP_EV:g} eV between {low:g} and {high:g} eV",
        )
    return window_ev

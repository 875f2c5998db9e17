"""A spectrum as a physical quantity: energies in eV, intensities, and everything done to it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from nearedge_db.errors import UserError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Intensity against energy (eV), energies strictly ascending; immutable, every method returns a new one.

    Raises UserError when the two are not one-dimensional, differ in length, are not finite, have fewer than
    two points, or the energies do not ascend strictly.
    """

    energies_ev: Array
    """Energies in eV, shape (P,), absolute or relative to any zero."""
    intensity: Array
    """Intensity, shape (P,), arbitrary units until normalised (then 1/eV)."""
    history: tuple[str, ...] = field(default=())
    """What was done, oldest first."""

    def __post_init__(self) -> None:
        for name in ("energies_ev", "intensity"):
            values = np.array(getattr(self, name), dtype=float)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "history", tuple(self.history))
        self._check()

    def _check(self) -> None:
        energies, intensity = self.energies_ev, self.intensity
        if energies.ndim != 1 or energies.shape != intensity.shape or energies.size < 2:
            raise UserError(
                "a spectrum needs two columns of one length, two points or more",
                got=f"energies {energies.shape} and intensities {intensity.shape}",
                fix="give one intensity for each energy",
            )
        for name, values in (("energy", energies), ("intensity", intensity)):
            if not np.isfinite(values).all():
                point = int(np.flatnonzero(~np.isfinite(values))[0])
                raise UserError(
                    f"the {name} of point {point + 1} is not finite",
                    got=values[point],
                    fix="remove the point",
                )
        steps = np.diff(energies)
        if (steps <= 0).any():
            point = int(np.flatnonzero(steps <= 0)[0])
            kind = "repeat" if steps[point] == 0 else "descend"
            raise UserError(
                f"the energies {kind} at point {point + 2}",
                got=f"{energies[point]:g} eV, then {energies[point + 1]:g} eV",
                fix="sort the points by energy and keep one for each",
            )

    @property
    def range_ev(self) -> tuple[float, float]:
        """First and last energy in eV."""
        return float(self.energies_ev[0]), float(self.energies_ev[-1])

    def shifted(self, ev: float) -> "Spectrum":
        """The same intensities at energies higher by ``ev`` eV."""
        _check_finite("shift", ev)
        return Spectrum(self.energies_ev + ev, self.intensity, (*self.history, f"shifted by {ev:+.4g} eV"))

    def scaled(self, factor: float) -> "Spectrum":
        """Intensities times a factor."""
        _check_finite("scale factor", factor)
        return Spectrum(self.energies_ev, self.intensity * factor, (*self.history, f"scaled by {factor:.6g}"))

    def cut(self, lo: float, hi: float) -> "Spectrum":
        """The points from ``lo`` to ``hi`` eV. Raises UserError when fewer than two are left."""
        keep = (self.energies_ev >= lo) & (self.energies_ev <= hi)
        if keep.sum() < 2:
            raise UserError("the cut leaves no spectrum", got=f"{lo:g} to {hi:g} eV", fix=self._range_hint())
        return Spectrum(
            self.energies_ev[keep], self.intensity[keep], (*self.history, f"cut to {lo:g} … {hi:g} eV")
        )

    def area(self, lo: float | None = None, hi: float | None = None) -> float:
        """Trapezoid area over ``lo`` to ``hi`` eV (the whole range by default), intensity × eV."""
        lo, hi = self._limits(lo, hi)
        inner = self.energies_ev[(self.energies_ev > lo) & (self.energies_ev < hi)]
        energies = np.concatenate([[lo], inner, [hi]])
        return float(np.trapezoid(np.interp(energies, self.energies_ev, self.intensity), energies))

    def normalised(self, lo: float | None = None, hi: float | None = None) -> "Spectrum":
        """In 1/eV: divided by the area over ``lo`` to ``hi`` eV. Raises UserError unless it is positive."""
        lo, hi = self._limits(lo, hi)
        area = self.area(lo, hi)
        if not area > 0:
            raise UserError(
                "the area to normalise by is not positive", got=f"{area:g}", fix="check the background"
            )
        step = f"area-normalised over {lo:g} … {hi:g} eV (÷ {area:.6g})"
        return Spectrum(self.energies_ev, self.intensity / area, (*self.history, step))

    def on(self, grid_energies: npt.ArrayLike) -> "Spectrum":
        """Linear interpolation onto ascending energies (eV). UserError where the spectrum does not reach."""
        energies = np.asarray(grid_energies, dtype=float)
        low, high = self.range_ev
        if energies.min() < low - 1e-9 or energies.max() > high + 1e-9:
            raise UserError(
                "the spectrum does not cover the grid",
                got=f"{low:g} to {high:g} eV for a grid from {energies.min():g} to {energies.max():g} eV",
                fix="shift it, or choose a narrower window",
            )
        intensity = np.interp(energies, self.energies_ev, self.intensity)
        step = f"interpolated onto {energies.size} points from {energies[0]:g} to {energies[-1]:g} eV"
        return Spectrum(energies, intensity, (*self.history, step))

    def broadened(self, sigma_ev: float) -> "Spectrum":
        """Convolved with a Gaussian of standard deviation ``sigma_ev`` eV; held constant beyond its ends."""
        _check_finite("broadening", sigma_ev)
        if sigma_ev <= 0:
            raise UserError(
                "the broadening must be positive", got=f"{sigma_ev} eV", fix="give sigma in eV, e.g. 0.5"
            )
        low, high = self.range_ev
        # The convolution needs equal steps, which measured spectra rarely have.
        fine = np.linspace(
            low, high, max(self.energies_ev.size, int(np.ceil((high - low) / sigma_ev * 20))) + 1
        )
        step_ev = fine[1] - fine[0]
        on_fine = np.interp(fine, self.energies_ev, self.intensity)
        smooth = gaussian_filter1d(on_fine, sigma_ev / step_ev, mode="nearest", truncate=6.0)
        intensity = np.interp(self.energies_ev, fine, smooth)
        return Spectrum(
            self.energies_ev, intensity, (*self.history, f"broadened by a Gaussian, σ {sigma_ev:g} eV")
        )

    def without_background(self, pre_edge: tuple[float, float], order: int = 0) -> "Spectrum":
        """Minus a constant (order 0) or line (order 1) fitted to the pre-edge range (lo, hi) in eV."""
        low, high = pre_edge
        inside = (self.energies_ev >= low) & (self.energies_ev <= high)
        if order not in {0, 1}:
            raise UserError(
                "the background is a constant or a line", got=f"order {order}", fix="use order 0 or 1"
            )
        if inside.sum() < 2 + order:
            raise UserError(
                "the pre-edge range holds too few points",
                got=f"{low:g} to {high:g} eV",
                fix=self._range_hint(),
            )
        centre = self.energies_ev[
            inside
        ].mean()  # fit around the centre: energies of hundreds of eV lose digits
        line = np.polynomial.Polynomial.fit(self.energies_ev[inside] - centre, self.intensity[inside], order)
        kind = "constant" if order == 0 else "linear"
        step = f"{kind} background of {low:g} … {high:g} eV removed ({float(line(0.0)):.4g} there)"
        return Spectrum(
            self.energies_ev, self.intensity - line(self.energies_ev - centre), (*self.history, step)
        )

    def noted(self, step: str) -> "Spectrum":
        """The same spectrum with one more line of history."""
        return Spectrum(self.energies_ev, self.intensity, (*self.history, step))

    def _limits(self, lo: float | None, hi: float | None) -> tuple[float, float]:
        low, high = self.range_ev
        lo, hi = (low if lo is None else lo), (high if hi is None else hi)
        if not low - 1e-9 <= lo < hi <= high + 1e-9:
            raise UserError(
                "the range is not inside the spectrum", got=f"{lo:g} to {hi:g} eV", fix=self._range_hint()
            )
        return lo, hi

    def _range_hint(self) -> str:
        low, high = self.range_ev
        return f"the spectrum goes from {low:g} to {high:g} eV"


def _check_finite(name: str, value: float) -> None:
    if not np.isfinite(value):
        raise UserError(f"the {name} must be a finite number", got=value, fix="give a number")

"""Bring an experiment onto the oracle's energy axis: one rigid shift, one scale."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from nearedge_db.errors import UserError
from nearedge_services.spectra.distance import area_normalised, window_mask, window_weights
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum

Array = npt.NDArray[np.float64]

ONSET_FRACTION = 0.2
"""The edge onset is where the intensity first climbs this far from its minimum to its maximum."""

SCAN_STEP_EV = 0.1
ROOM_EV = 2.0
"""Room left at the ends of an experiment, so that shifts around the first guess keep the window covered."""

LEAST_WINDOW_EV = 5.0
BELOW_EV = 10.0
"""How far below theory's first energy measured intensity counts as missed: theory has none there."""

SHIFT_TOLERANCE = 1.05
"""Shifts with a residual within this factor of the best count as equally good."""


@dataclass(frozen=True)
class Alignment:
    """One rigid shift and one scale for the whole spectrum, and how well they did."""

    shift_ev: float
    """Energy of the theory's zero on the experiment's axis: theory energy = experiment energy − shift."""
    scale: float
    """Factor on the background-free experimental intensity that makes its area over the window one, 1/eV."""
    residual: float
    """Mean distance to the nearest theory spectra at this shift, 1/eV."""
    nearest_distance: float
    """Distance to the single nearest theory spectrum, 1/eV."""
    theory_spread: float
    """Median distance between the theory spectra themselves over the same window, 1/eV.

    A residual well above it says that no theory spectrum explains the experiment: background, resolution,
    a wrong material, or the oracle's own error."""
    shift_range_ev: tuple[float, float]
    """Shifts whose residual is within 5 % of the best, eV: how well the data determine the shift."""
    window_ev: tuple[float, float]
    """Window of the comparison on the theory's axis, eV."""
    neighbours: int
    """How many nearest theory spectra the residual is a mean over."""

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        return {
            **asdict(self),
            "shift_range_ev": list(self.shift_range_ev),
            "window_ev": list(self.window_ev),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Alignment":
        """The alignment that `to_json` wrote."""
        pairs = {name: tuple(record[name]) for name in ("shift_range_ev", "window_ev")}
        return cls(**{**record, **pairs})


def align(
    experiment: Spectrum,
    theory: Sequence[npt.ArrayLike],
    grid: EnergyGrid,
    *,
    max_shift_ev: float = 8.0,
    guess_ev: float | None = None,
    window_ev: tuple[float, float] | None = None,
    pre_edge: tuple[float, float] | None = None,
    background_order: int = 0,
    neighbours: int = 3,
) -> tuple[Alignment, Spectrum]:
    """Find the shift that brings the experiment closest to the theory spectra (each (G,) on ``grid``).

    ``pre_edge`` (eV, experiment's axis) sets the background to remove first: a constant
    (``background_order`` 0) or a line (1). The shift is searched within ``max_shift_ev`` of ``guess_ev``,
    by default the difference of the edge onsets; at every shift both sides are area-normalised over
    ``window_ev`` (theory's axis; by default what the experiment covers), so the scale follows from the shift.

    The objective is the mean distance to the ``neighbours`` nearest theory spectra. What was measured below theory's
    first energy counts as missed, for theory has no empty states there: else a shift that moves the first peak out
    of the window would be rewarded. A non-negative
    combination of all of them would be flexible enough to imitate a shifted edge, and the single nearest
    lets one odd spectrum decide; a few neighbours do neither, and stay comparable with the distance the
    campaign minimises.

    Returns the alignment and the experiment on the theory's axis, background-free and scaled. Raises
    UserError when the experiment is too short for the window, or when the best shift is at the end of the
    search.
    """
    rows = _theory_rows(theory, grid)
    clean = (
        experiment if pre_edge is None else experiment.without_background(pre_edge, order=background_order)
    )
    if guess_ev is None:
        onset = edge_onset(grid.energies, area_normalised(rows, grid.weights).mean(axis=0))
        guess_ev = edge_onset(clean.energies_ev, clean.intensity) - onset
    window = window_ev if window_ev is not None else _covered_window(clean, grid, guess_ev)
    search = _Search(clean, rows, grid, window_mask(grid, window), min(neighbours, len(rows)))
    shifts = _candidate_shifts(clean, search.window_ev, guess_ev, max_shift_ev)
    shift_ev, shift_range_ev = search.best(shifts)
    distances = np.sort(search.distances(shift_ev))
    alignment = Alignment(
        shift_ev=shift_ev,
        scale=1.0 / search.area(shift_ev),
        residual=float(distances[: search.neighbours].mean()),
        nearest_distance=float(distances[0]),
        theory_spread=search.theory_spread(),
        shift_range_ev=shift_range_ev,
        window_ev=search.window_ev,
        neighbours=search.neighbours,
    )
    note = (
        f"aligned to {len(rows)} theory spectra: residual {alignment.residual:.4g} /eV, "
        f"theory spread {alignment.theory_spread:.4g} /eV"
    )
    return alignment, clean.shifted(-shift_ev).scaled(alignment.scale).noted(note)


def edge_onset(energies_ev: Array, intensity: Array) -> float:
    """Energy in eV where the intensity first reaches 20 % of the way from its minimum to its maximum."""
    level = intensity.min() + ONSET_FRACTION * (intensity.max() - intensity.min())
    above = int(np.flatnonzero(intensity >= level)[0])
    if above == 0:
        return float(energies_ev[0])
    pair = slice(above - 1, above + 1)
    return float(np.interp(level, intensity[pair], energies_ev[pair]))


@dataclass(frozen=True)
class _Search:
    """The objective as a function of the shift alone."""

    experiment: Spectrum
    theory: Array
    grid: EnergyGrid
    mask: npt.NDArray[np.bool_]
    neighbours: int

    @property
    def window_ev(self) -> tuple[float, float]:
        inside = self.grid.energies[self.mask]
        return float(inside[0]), float(inside[-1])

    @property
    def weights(self) -> Array:
        return window_weights(self.grid, self.mask)[self.mask]

    def on_window(self, shift_ev: float) -> Array:
        """The experiment at the window's energies, shape (W,)."""
        energies = self.grid.energies[self.mask] + shift_ev
        return np.interp(energies, self.experiment.energies_ev, self.experiment.intensity)

    def area(self, shift_ev: float) -> float:
        return float(self.on_window(shift_ev) @ self.weights)

    def distances(self, shift_ev: float) -> Array:
        """Distance to every theory spectrum in 1/eV, shape (K,); infinite where there is no area."""
        observed, area = self.on_window(shift_ev), self.area(shift_ev)
        if area <= 0:
            return np.full(len(self.theory), np.inf)
        expected = area_normalised(self.theory[:, self.mask], self.weights)
        return np.sqrt(np.mean((observed / area - expected) ** 2, axis=-1))

    def below(self, shift_ev: float) -> Array:
        """The experiment below theory's first energy, on steps of the grid, as far as it was measured."""
        first = max(self.experiment.range_ev[0] - shift_ev, self.grid.start_ev - BELOW_EV)
        energies = np.arange(self.grid.start_ev - self.grid.step_ev, first, -self.grid.step_ev)
        return np.interp(energies + shift_ev, self.experiment.energies_ev, self.experiment.intensity)

    def residual(self, shift_ev: float) -> float:
        """What is made small: the distance to the nearest, with what is missed below theory's first energy."""
        nearest = np.sort(self.distances(shift_ev))[: self.neighbours]
        if not np.isfinite(nearest).all():
            return float("inf")
        missed = np.sum((self.below(shift_ev) / self.area(shift_ev)) ** 2) / self.mask.sum()
        return float(np.sqrt(nearest**2 + missed).mean())

    def best(self, shifts: Array) -> tuple[float, tuple[float, float]]:
        """The best shift and the range of those about as good, eV."""
        residuals = np.array([self.residual(shift) for shift in shifts])
        lowest = int(residuals.argmin())
        if lowest in {0, len(shifts) - 1} or not np.isfinite(residuals[lowest]):
            raise UserError(
                "the alignment found no best shift inside its search",
                got=f"{shifts[0]:.1f} to {shifts[-1]:.1f} eV, still improving at {shifts[lowest]:.1f} eV",
                fix="give a better guess, a wider search or a narrower window",
            )
        bracket = (shifts[lowest - 1], shifts[lowest + 1])
        shift_ev = float(minimize_scalar(self.residual, bounds=bracket, method="bounded").x)
        good = shifts[residuals <= SHIFT_TOLERANCE * self.residual(shift_ev)]
        return shift_ev, (float(min(good, default=shift_ev)), float(max(good, default=shift_ev)))

    def theory_spread(self) -> float:
        expected = area_normalised(self.theory[:, self.mask], self.weights)
        first, second = np.triu_indices(len(expected), k=1)
        return float(np.median(np.sqrt(np.mean((expected[first] - expected[second]) ** 2, axis=-1))))


def _theory_rows(theory: Sequence[npt.ArrayLike], grid: EnergyGrid) -> Array:
    rows = np.array([np.asarray(row, dtype=float) for row in theory])
    if rows.ndim != 2 or rows.shape[1] != grid.size or len(rows) < 2:
        raise ValueError(
            f"theory must be two spectra or more of {grid.size} points, got the shape {rows.shape}"
        )
    return rows


def _covered_window(experiment: Spectrum, grid: EnergyGrid, guess_ev: float) -> tuple[float, float]:
    """What the experiment covers of the grid at the first guess, with room for shifts around it, eV."""
    first, last = experiment.range_ev
    low = max(grid.start_ev, first - guess_ev + ROOM_EV)
    high = min(grid.stop_ev, last - guess_ev - ROOM_EV)
    if high - low < LEAST_WINDOW_EV:
        raise UserError(
            "the experiment is too short to align",
            got=f"{first:g} to {last:g} eV with its edge near {guess_ev:.1f} eV",
            fix=f"measure {LEAST_WINDOW_EV + 2 * ROOM_EV:g} eV or more around the edge, or give window_ev",
        )
    return low, high


def _candidate_shifts(
    experiment: Spectrum, window_ev: tuple[float, float], guess_ev: float, max_shift_ev: float
) -> Array:
    """Shifts in eV within the search that keep the window covered by the experiment."""
    if not max_shift_ev > SCAN_STEP_EV:
        raise UserError(
            "the shift search is empty", got=f"{max_shift_ev} eV", fix="give max_shift_ev of a few eV"
        )
    steps = int(max_shift_ev / SCAN_STEP_EV)
    shifts = guess_ev + SCAN_STEP_EV * np.arange(-steps, steps + 1)
    first, last = experiment.range_ev
    covered = shifts[(window_ev[0] + shifts >= first - 1e-9) & (window_ev[1] + shifts <= last + 1e-9)]
    if len(covered) < 3:
        raise UserError(
            "the experiment does not cover the window at any shift searched",
            got=f"{first:g} to {last:g} eV for a window of {window_ev[1] - window_ev[0]:g} eV",
            fix="choose a narrower window",
        )
    return np.asarray(covered, dtype=float)

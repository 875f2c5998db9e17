"""From the spectra of a cheap oracle to those of a dear one, learnt from structures that both have labelled.

One rigid shift of the energies, then a linear map between the spectra: the leading principal components of the cheap
spectra, and what each of them means for the dear ones. Few pairs allow few components.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from nearedge_db.errors import UserError
from nearedge_services.spectra.align import edge_onset
from nearedge_services.spectra.distance import area_normalised

Array = npt.NDArray[np.float64]

LEAST_PAIRS = 6
"""With fewer a correction is refused: its error could not be told by leaving one out."""

PAIRS_A_COMPONENT = 3
MOST_COMPONENTS = 3
SEARCHED_EV = 4.0
SCAN_STEP_EV = 0.25


@dataclass(frozen=True)
class Correction:
    """The map from K pairs. All spectra on the W energies of the window have unit area there, 1/eV."""

    energies_ev: Array
    """Window on the dear oracle's axis, shape (W,)."""
    shift_ev: float
    """Energy on the dear oracle's axis less that on the cheap one's."""
    cheap_energies_ev: Array
    cheap_mean: Array
    """Shape (W,), of the shifted spectra."""
    dear_mean: Array
    components: Array
    """Leading principal components of the shifted cheap spectra, shape (R, W)."""
    slopes: Array
    """What one unit along each component does to the dear spectrum, shape (R, W)."""

    def apply(self, cheap: npt.ArrayLike) -> Array:
        """What the dear oracle would say, shape (…, W), of cell-mean spectra (…, G) of the cheap one."""
        shifted = on_window(self.cheap_energies_ev, cheap, self.energies_ev, self.shift_ev)
        return self.dear_mean + (shifted - self.cheap_mean) @ self.components.T @ self.slopes


@dataclass(frozen=True)
class Judged:
    """A correction with what it is wrong by. Errors are root mean squares over pairs and window, 1/eV."""

    correction: Correction
    pairs: int
    left_out: Array
    """Spectrum that the map without the pair predicts for each, shape (K, W)."""
    error: float
    """Of these predictions: every pair was left out of the fit that predicts it."""
    shifted_error: float
    """Of the shifted cheap spectra as they are."""
    constant_error: float
    """Of the mean of the other dear spectra: a correction that is no better has learnt nothing about structures."""


def learn(
    cheap_energies_ev: Array,
    cheap: Array,
    dear_energies_ev: Array,
    dear: Array,
    window_ev: tuple[float, float],
) -> Judged:
    """The correction from pairs of cell-mean spectra, cheap (K, G) and dear (K, H), judged by leaving each out.

    ``window_ev`` is on the dear oracle's axis. Raises UserError when there are fewer than `LEAST_PAIRS`, or when no
    shift brings the cheap spectra over the window.
    """
    if len(cheap) != len(dear):
        raise ValueError(f"{len(cheap)} cheap and {len(dear)} dear spectra are no pairs")
    if len(cheap) < LEAST_PAIRS:
        raise UserError(
            "not enough pairs for a correction",
            got=f"{len(cheap)} structures labelled by both oracles",
            fix=f"{LEAST_PAIRS} or more are needed",
        )
    inside = (dear_energies_ev >= window_ev[0] - 1e-9) & (dear_energies_ev <= window_ev[1] + 1e-9)
    energies = dear_energies_ev[inside]
    dear = on_window(dear_energies_ev, dear, energies)
    correction = _fit(cheap_energies_ev, cheap, energies, dear)
    others = ~np.eye(len(cheap), dtype=bool)
    left_out = np.array(
        [_fit(cheap_energies_ev, cheap[o], energies, dear[o]).apply(cheap[~o][0]) for o in others]
    )
    shifted = on_window(cheap_energies_ev, cheap, energies, correction.shift_ev)
    constant = np.array([dear[o].mean(axis=0) for o in others])
    return Judged(
        correction=correction,
        pairs=len(cheap),
        left_out=left_out,
        error=_rms(left_out - dear),
        shifted_error=_rms(shifted - dear),
        constant_error=_rms(constant - dear),
    )


def on_window(energies_ev: Array, spectra: npt.ArrayLike, window: Array, shift_ev: float = 0.0) -> Array:
    """Spectra (…, G), moved up by ``shift_ev``, at the energies (W,) and with unit area over them.

    Below its first energy a spectrum is zero: an oracle's grid begins below the first empty state.
    """
    rows = np.asarray(spectra, dtype=float)
    flat = [
        np.interp(window, energies_ev + shift_ev, row, left=0.0) for row in rows.reshape(-1, rows.shape[-1])
    ]
    weights = np.full(len(window), window[1] - window[0])
    weights[[0, -1]] /= 2
    return area_normalised(np.reshape(flat, (*rows.shape[:-1], len(window))), weights)


def _fit(cheap_energies_ev: Array, cheap: Array, energies: Array, dear: Array) -> Correction:
    shift_ev = _shift(cheap_energies_ev, cheap, energies, dear)
    shifted = on_window(cheap_energies_ev, cheap, energies, shift_ev)
    cheap_mean, dear_mean = shifted.mean(axis=0), dear.mean(axis=0)
    count = min(MOST_COMPONENTS, len(cheap) // PAIRS_A_COMPONENT)
    components = np.linalg.svd(shifted - cheap_mean, full_matrices=False)[2][:count]
    scores = (shifted - cheap_mean) @ components.T
    slopes = np.linalg.lstsq(scores, dear - dear_mean, rcond=None)[0]
    return Correction(energies, shift_ev, cheap_energies_ev, cheap_mean, dear_mean, components, slopes)


def _shift(cheap_energies_ev: Array, cheap: Array, energies: Array, dear: Array) -> float:
    """Rigid shift that brings the mean cheap spectrum nearest to the mean dear one, eV."""
    mean, wanted = cheap.mean(axis=0), dear.mean(axis=0)
    guess = edge_onset(energies, wanted) - edge_onset(cheap_energies_ev, mean)
    least = energies[-1] - cheap_energies_ev[-1]
    shifts = np.arange(guess - SEARCHED_EV, guess + SEARCHED_EV + SCAN_STEP_EV / 2, SCAN_STEP_EV)
    shifts = shifts[shifts >= least - 1e-9]
    if not len(shifts):
        raise UserError(
            "the spectra of the two oracles do not overlap",
            got=f"up to {cheap_energies_ev[-1] + guess:.1f} eV for a window to {energies[-1]:g} eV",
            fix="compute more energies (stop_ev) with the first oracle",
        )

    def wrong_by(shift_ev: float) -> float:
        return _rms(on_window(cheap_energies_ev, mean, energies, shift_ev) - wanted)

    nearest = float(shifts[int(np.argmin([wrong_by(shift) for shift in shifts]))])
    bounds = (max(nearest - SCAN_STEP_EV, least), nearest + SCAN_STEP_EV)
    return float(minimize_scalar(wrong_by, bounds=bounds, method="bounded").x)


def _rms(difference: Array) -> float:
    return float(np.sqrt(np.mean(difference**2)))

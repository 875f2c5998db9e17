"""Further measures of where a spectrum lies between those of diamond and of graphite, beside the ratio of areas.

All use the windows of that ratio: nothing in them is fitted to any network. Where spectra are compared they have unit
area over both windows together, as measured ones are normalised before they are compared (J. Stöhr, NEXAFS
Spectroscopy, Springer 1992).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nearedge.bench.base import Row
from nearedge.bench.oracle_rows import PI_WINDOW_EV, SIGMA_WINDOW_EV, Crystal, between_ends, rank

Array = npt.NDArray[np.float64]

_NARROW_EV = (-1.0, 1.0)


class Fit(NamedTuple):
    """A spectrum as a sum of graphite and diamond; ``misfit``: squared residual over the squared spectrum."""

    graphite: float
    diamond: float
    misfit: float


def normalised(crystal: Crystal, spectrum: Array) -> Array:
    """Of unit sum within both windows."""
    return np.asarray(spectrum / spectrum[_within(crystal, _both())].sum())


def fit(crystal: Crystal, spectrum: Array, sum_to_one: bool = True) -> Fit:
    """Linear combination of graphite and diamond that is nearest to the spectrum, weights of any sign.

    The usual analysis of mixtures in XANES: B. Ravel and M. Newville, J. Synchrotron Rad. 12, 537 (2005). Energies are
    not shifted. NaN where graphite has no π*.
    """
    if np.isnan(crystal.pi_ev):
        return Fit(*[float("nan")] * 3)
    there = _within(crystal, _both())
    y, graphite, diamond = (
        normalised(crystal, one)[there] for one in (spectrum, crystal.graphite, crystal.diamond)
    )
    if sum_to_one:
        step = graphite - diamond
        share = float((y - diamond) @ step / (step @ step))
        weights = np.array([share, 1 - share])
    else:
        weights = np.linalg.lstsq(np.column_stack([graphite, diamond]), y, rcond=None)[0]
    rest = y - weights[0] * graphite - weights[1] * diamond
    return Fit(float(weights[0]), float(weights[1]), float(rest @ rest / (y @ y)))


def height(crystal: Crystal, spectrum: Array, window_ev: tuple[float, float] = PI_WINDOW_EV) -> float:
    """Highest point of π*, over graphite's, of spectra of unit area: disorder that broadens a peak lowers it."""
    there = _within(crystal, window_ev)
    own, graphites = (normalised(crystal, one)[there].max() for one in (spectrum, crystal.graphite))
    return float(own / graphites)


def height_ratio(crystal: Crystal, spectrum: Array) -> float:
    """Highest point of π* over that of σ*, over the same of graphite."""
    pi = _within(crystal, PI_WINDOW_EV)
    sigma = _within(crystal, SIGMA_WINDOW_EV) & ~pi
    own, graphites = (one[pi].max() / one[sigma].max() for one in (spectrum, crystal.graphite))
    return float(own / graphites)


def onset(crystal: Crystal, spectrum: Array) -> float:
    """Where the spectrum first reaches half of its maximum, eV from graphite's π*."""
    there = _within(crystal, _both())
    first = int((spectrum[there] >= spectrum[there].max() / 2).argmax())
    return float(crystal.energies_ev[there][first] - crystal.pi_ev)


def _share(crystal: Crystal, spectrum: Array) -> float:
    return fit(crystal, spectrum).graphite


def _free_share(crystal: Crystal, spectrum: Array) -> float:
    found = fit(crystal, spectrum, sum_to_one=False)
    return found.graphite / (found.graphite + found.diamond)


def _narrow_height(crystal: Crystal, spectrum: Array) -> float:
    return height(crystal, spectrum, _NARROW_EV)


_MEASURES: dict[str, Callable[[Crystal, Array], float]] = {
    "weight of graphite in a fit": _share,
    "weight of graphite in a fit of free weights": _free_share,
    "height of π*": height,
    "height of π* within 1 eV": _narrow_height,
    "π*/σ* height": height_ratio,
    "onset": onset,
}
MEASURES = tuple(_MEASURES)
"""Their names."""


def measured(title: str, crystal: Crystal, spectrum: Array) -> float:
    """One of `MEASURES` of a spectrum (E,) on the crystals' energies; NaN where graphite has no π*."""
    return float("nan") if np.isnan(crystal.pi_ev) else _MEASURES[title](crystal, spectrum)


def measure_rows(
    name: str, crystal: Crystal, networks: Sequence[Array], unsaturated: Sequence[float]
) -> tuple[list[Row], dict[str, Any]]:
    """How many networks lie between the crystals by each measure, which do not, and how each orders them.

    ``networks``: mean spectra (E,) on the crystal's energies. ``unsaturated``: of each, the share of sp² and sp atoms.
    """
    rows: list[Row] = []
    data: dict[str, Any] = {}
    for title in MEASURES:
        values = [measured(title, crystal, spectrum) for spectrum in networks]
        diamond, graphite = (measured(title, crystal, one) for one in (crystal.diamond, crystal.graphite))
        between, outside = between_ends(values, (diamond, graphite), unsaturated)
        rows += [
            Row.shown(f"{name}: between by {title}, of {len(values)}{outside}", sum(between)),
            Row.shown(f"{name}: rank correlation of {title} and sp² + sp share", rank(values, unsaturated)),
        ]
        data[title] = {"networks": values, "diamond": diamond, "graphite": graphite}
    more, data["fits"] = _fit_rows(name, crystal, networks)
    return [*rows, *more], data


def _fit_rows(
    name: str, crystal: Crystal, networks: Sequence[Array]
) -> tuple[list[Row], dict[str, list[list[float]]]]:
    """How good the fits are, beside a flat spectrum: a weight between 0 and 1 says little where it has one too."""
    data = {
        key: [list(fit(crystal, spectrum, sum_to_one)) for spectrum in networks]
        for key, sum_to_one in (("sum to one", True), ("free", False))
    }
    flat = fit(crystal, np.ones_like(crystal.energies_ev))
    misfit = float(np.median([one[-1] for one in data["sum to one"]]))
    rows = [
        Row.shown(f"{name}: weight of graphite in a fit of a flat spectrum", flat.graphite),
        Row.shown(f"{name}: misfit of fits, median, beside a flat spectrum's", misfit, "", flat.misfit),
    ]
    return rows, data


def _both() -> tuple[float, float]:
    return PI_WINDOW_EV[0], SIGMA_WINDOW_EV[1]


def _within(crystal: Crystal, window_ev: tuple[float, float]) -> npt.NDArray[np.bool_]:
    above = crystal.energies_ev - crystal.pi_ev
    return (above >= window_ev[0]) & (above <= window_ev[1])

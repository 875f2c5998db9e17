"""Figures of the bench ``oracles``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from nearedge.bench.base import Row

Array = npt.NDArray[np.float64]

PI_EV, SIGMA_EV, DIAMOND_EV = 285.4, 291.7, 289.0
"""Experiment, eV: the maxima of graphite and the edge of diamond."""

COMMON_EV = (-2.0, 15.0)
"""Window in which spectra of different oracles are compared, eV from the zero of each."""

PI_WINDOW_EV, SIGMA_WINDOW_EV = (-2.0, 2.0), (2.0, 12.5)
"""What counts as π* and as σ* in any carbon, eV from the π* of graphite; the gap of diamond is in the first."""

_PI_HALF_WIDTH_EV = 1.0
_BELOW_EDGE_EV = 3.0
_SIGMA_ABOVE_PI_EV = (4.0, 12.0)


@dataclass(frozen=True)
class Crystal:
    """Spectra of graphite and diamond (E,), of unit sum, on the oracle's own energies (E,), eV."""

    energies_ev: Array
    graphite: Array
    diamond: Array

    @property
    def pi_ev(self) -> float:
        """Of graphite's π*, see `pi_of`."""
        return pi_of(self.energies_ev, self.graphite)

    @property
    def sigma_ev(self) -> float:
        """Of graphite's σ*, see `sigma_of`."""
        return sigma_of(self.energies_ev, self.graphite)

    @property
    def valley(self) -> float:
        """The lowest point between π* and σ* of graphite over the lower of the two; NaN without them."""
        if np.isnan(self.sigma_ev):
            return float("nan")
        at = np.searchsorted(self.energies_ev, [self.pi_ev, self.sigma_ev])
        return float(self.graphite[at[0] : at[1] + 1].min() / self.graphite[at].min())

    @property
    def diamond_edge_ev(self) -> float:
        """Where diamond first reaches half of its maximum."""
        return float(self.energies_ev[int((self.diamond >= self.diamond.max() / 2).argmax())])

    @property
    def diamond_at_pi(self) -> float:
        """The area of diamond where graphite has its π*, over that of graphite there."""
        there = np.abs(self.energies_ev - self.pi_ev) <= _PI_HALF_WIDTH_EV
        return float(self.diamond[there].sum() / self.graphite[there].sum()) if there.any() else float("nan")

    def photon_ev(self, energy_ev: float) -> float:
        """The energy after the one alignment of an oracle: graphite's π* is the experiment's."""
        return energy_ev - self.pi_ev + PI_EV

    def sp2_by_area(self, energies_ev: Array, spectrum: Array) -> float:
        """Area of π* over area of σ* of a spectrum on energies of the same zero, over the same ratio of graphite.

        The usual measure of the share of sp² atoms in amorphous carbon: S. D. Berger, D. R. McKenzie and P. J. Martin,
        Phil. Mag. Lett. 57, 285 (1988); F. Mangolini et al., Anal. Chem. 88, 2817 (2016). Graphite is 1 by definition.
        """
        own, graphites = (
            self._pi_to_sigma(energies_ev, spectrum),
            self._pi_to_sigma(self.energies_ev, self.graphite),
        )
        return own / graphites

    def _pi_to_sigma(self, energies_ev: Array, spectrum: Array) -> float:
        above = energies_ev - self.pi_ev
        pi = (above >= PI_WINDOW_EV[0]) & (above <= PI_WINDOW_EV[1])
        sigma = (above > SIGMA_WINDOW_EV[0]) & (above <= SIGMA_WINDOW_EV[1])
        return float(spectrum[pi].sum() / spectrum[sigma].sum())


def pi_of(energies_ev: Array, graphite: Array) -> float:
    """First maximum that is above 15 % of the highest point, eV; NaN where there is none."""
    return _first_maximum(energies_ev, graphite, 0.15 * graphite.max())


def sigma_of(energies_ev: Array, graphite: Array) -> float:
    """First maximum from 4 to 12 eV above π* that is above 60 % of the highest point there, eV; NaN without one.

    A weaker one, of states between the layers, lies below.
    """
    above = energies_ev - pi_of(energies_ev, graphite)
    there = (above >= _SIGMA_ABOVE_PI_EV[0]) & (above <= _SIGMA_ABOVE_PI_EV[1])
    return _first_maximum(energies_ev[there], graphite[there], 0.6 * graphite[there].max(initial=0.0))


def foot_of(energies_ev: Array, diamond: Array) -> float:
    """Of its maximum, 3 eV below the edge: there is nothing in the gap of diamond."""
    edge = energies_ev[int((diamond >= diamond.max() / 2).argmax())]
    return float(np.interp(edge - _BELOW_EDGE_EV, energies_ev, diamond) / diamond.max())


def _first_maximum(energies_ev: Array, y: Array, least: float) -> float:
    """Of those above ``least``, eV; NaN where there is none."""
    inner = (y[1:-1] >= y[:-2]) & (y[1:-1] > y[2:]) & (y[1:-1] > least)
    return float(energies_ev[1:-1][inner][0]) if inner.any() else float("nan")


def crystal_rows(name: str, crystal: Crystal, photon_zero_ev: float | None = None) -> list[Row]:
    """Positions beside experiment after one alignment, and whether graphite and diamond are told apart.

    ``photon_zero_ev``: the photon energy that is the zero, of an oracle that knows it.
    """
    rows = [
        Row.shown(f"{name}: σ* of graphite", crystal.photon_ev(crystal.sigma_ev), "eV", SIGMA_EV),
        Row.shown(f"{name}: edge of diamond", crystal.photon_ev(crystal.diamond_edge_ev), "eV", DIAMOND_EV),
        Row.at_most(f"{name}: between π* and σ* of graphite, of the lower", 100 * crystal.valley, 80, "%"),
        Row.at_most(
            f"{name}: diamond within 1 eV of graphite's π*, of graphite there",
            100 * crystal.diamond_at_pi,
            25,
            "%",
        ),
    ]
    if photon_zero_ev is not None:
        rows.insert(
            0, Row.shown(f"{name}: π* of graphite, not aligned", photon_zero_ev + crystal.pi_ev, "eV", PI_EV)
        )
    return rows


def network_rows(
    name: str, crystal: Crystal, networks: Sequence[Array], unsaturated: Sequence[float]
) -> tuple[list[Row], dict[str, Any]]:
    """Whether amorphous networks lie between diamond and graphite, ordered by their share of sp and sp².

    By the ratio of areas, see `Crystal.sp2_by_area`. ``networks``: mean spectra (E,) on the crystal's energies.
    ``unsaturated``: of each, the share of atoms that are not four-fold.
    """
    shares = [crystal.sp2_by_area(crystal.energies_ev, spectrum) for spectrum in networks]
    diamond = crystal.sp2_by_area(crystal.energies_ev, crystal.diamond)
    between, outside = between_ends(shares, (diamond, 1.0), unsaturated)
    rows = [
        Row.shown(f"{name}: π*/σ* area of diamond, over graphite's", diamond),
        Row.shown(f"{name}: networks between them, of {len(shares)}{outside}", sum(between)),
        Row.shown(f"{name}: sp² + sp share up to which all are", _all_up_to(unsaturated, between)),
        Row.at_least(
            f"{name}: rank correlation of their π*/σ* area and sp² + sp share",
            rank(shares, unsaturated),
            0.7,
        ),
    ]
    return rows, {"pi_over_sigma": shares, "unsaturated": list(unsaturated), "diamond": diamond}


def between_ends(
    values: Sequence[float], ends: tuple[float, float], unsaturated: Sequence[float]
) -> tuple[list[bool], str]:
    """Which values lie between the ends, either of which may be the larger, and in words which do not.

    ``unsaturated``: the share of sp² and sp atoms by which a network is named.
    """
    between = [min(ends) < value < max(ends) for value in values]
    out = sorted(share for share, true in zip(unsaturated, between, strict=True) if not true)
    named = ", ".join(f"{100 * share:.0f}" for share in out)
    return between, f"; outside: those with {named} % of sp² + sp" if out else ""


def _all_up_to(places: Sequence[float], hold: Sequence[bool]) -> float | None:
    """The largest place at and below which everything holds; None where it does not hold at the lowest."""
    failing = min((place for place, true in zip(places, hold, strict=True) if not true), default=np.inf)
    return max((place for place in places if place < failing), default=None)


def ranking_rows(
    name: str,
    own: Sequence[Array],
    true: Sequence[Array],
    shares: tuple[Sequence[float], Sequence[float]],
    of: str = "absorbers",
) -> tuple[list[Row], dict[str, Any]]:
    """How an oracle orders ``of``: spectra (E,) of its own and of gpaw, each of unit sum in `COMMON_EV`.

    ``shares``: the ratio of areas of each spectrum, own and true.
    """
    pairs = list(combinations(range(len(own)), 2))
    distances = [[float(np.sqrt(np.mean((s[i] - s[j]) ** 2))) for i, j in pairs] for s in (own, true)]
    rows = [
        Row.at_least(
            f"{name}: rank correlation with gpaw, distances of {len(pairs)} pairs of {of}",
            rank(*distances),
            0.5,
        ),
        Row.at_least(
            f"{name}: rank correlation with gpaw, π*/σ* area of {len(own)} {of}", rank(*shares), 0.5
        ),
    ]
    return rows, {"own": distances[0], "gpaw": distances[1], "pi_over_sigma": [list(one) for one in shares]}


def series_rows(
    title: str, values: Sequence[Any], energies_ev: Sequence[Array], spectra: Sequence[Array], crystal: str
) -> list[Row]:
    """How far each value of a setting is from the last: area that differs, graphite's π*–σ* distance, and what
    diamond has in its gap.

    ``spectra``: of unit sum, each on its own energies, which are compared as they stand. ``title``: of the series.
    """
    rows = []
    last = spectra[-1]
    for value, axis, spectrum in zip(values[:-1], energies_ev, spectra, strict=False):
        on_last = np.interp(energies_ev[-1], axis, spectrum, left=0.0, right=0.0)
        differing = 50 * float(np.abs(on_last / on_last.sum() - last).sum())
        pair = f"{title} {shown(value)} against {shown(values[-1])}"
        rows.append(Row.shown(f"{pair}, area that differs", differing, "%"))
        if crystal == "graphite":
            apart = [sigma_of(e, s) - pi_of(e, s) for e, s in ((axis, spectrum), (energies_ev[-1], last))]
            rows.append(Row.shown(f"{pair}, π* to σ*", apart[0], "eV", apart[1]))
        else:
            feet = [100 * foot_of(e, s) for e, s in ((axis, spectrum), (energies_ev[-1], last))]
            rows.append(Row.shown(f"{pair}, 3 eV below the edge, of the maximum", feet[0], "%", feet[1]))
    return rows


def shown(value: Any) -> str:
    """A setting's value in a table."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "×".join(str(one) for one in value)
    return "default" if value is None else str(value)


def common(energies_ev: Array, spectrum: Array, axis_ev: Array) -> Array:
    """The spectrum on another axis, of unit sum there."""
    found = np.interp(axis_ev, energies_ev, spectrum)
    return np.asarray(found / found.sum())


def absent_rows(missing: Mapping[str, str], failed: Mapping[str, str]) -> list[Row]:
    """A row for each oracle that is not installed, and one, not passed, for each calculation that failed."""
    return [
        *(Row.shown(f"{name}: not measured, {reason}", None) for name, reason in missing.items()),
        *(Row.at_least(f"{name}: failed, {reason}", None, 0) for name, reason in failed.items()),
    ]


def rank(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's correlation; NaN where one of them is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)

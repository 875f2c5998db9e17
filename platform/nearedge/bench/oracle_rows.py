"""Figures of the bench ``oracles``."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from nearedge.bench.base import Row

Array = npt.NDArray[np.float64]

#: Experiment, eV: the maxima of graphite and the edge of diamond.
PI_EV, SIGMA_EV, DIAMOND_EV = 285.4, 291.7, 289.0

#: Above the π* of graphite and below the edge of diamond, both aligned, eV.
BETWEEN_EV = 287.5

#: Of the Fermi level, up to where the area of the networks counts as π*, eV.
PI_BELOW_EV = 4.5


@dataclass(frozen=True)
class Crystal:
    """Spectra of graphite and diamond (E,), of unit sum, on the oracle's own energies (E,), eV."""

    energies_ev: Array
    graphite: Array
    diamond: Array

    @property
    def pi_ev(self) -> float:
        """First maximum of graphite that is above 15 % of the highest."""
        y = self.graphite
        inner = (y[1:-1] >= y[:-2]) & (y[1:-1] > y[2:]) & (y[1:-1] > 0.15 * y.max())
        return float(self.energies_ev[1:-1][inner][0]) if inner.any() else float("nan")

    @property
    def sigma_ev(self) -> float:
        """Highest point of graphite at least 4 eV above π*."""
        return float(
            self.energies_ev[np.where(self.energies_ev >= self.pi_ev + 4, self.graphite, 0).argmax()]
        )

    @property
    def diamond_edge_ev(self) -> float:
        """Where diamond first reaches half of its maximum."""
        return float(self.energies_ev[int((self.diamond >= self.diamond.max() / 2).argmax())])

    def photon_ev(self, energy_ev: float) -> float:
        """The energy after the one alignment of an oracle: graphite's π* is the experiment's."""
        return energy_ev - self.pi_ev + PI_EV

    def between(self, spectrum: Array) -> float:
        """Share of a spectrum below ``BETWEEN_EV``, aligned."""
        return float(spectrum[self.photon_ev(0.0) + self.energies_ev < BETWEEN_EV].sum())


def crystal_rows(name: str, crystal: Crystal) -> list[Row]:
    """Positions beside experiment, and what lies below the edge of diamond in either crystal."""
    return [
        Row.shown(f"{name}: σ* of graphite", crystal.photon_ev(crystal.sigma_ev), "eV", SIGMA_EV),
        Row.shown(f"{name}: edge of diamond", crystal.photon_ev(crystal.diamond_edge_ev), "eV", DIAMOND_EV),
        Row.shown(
            f"{name}: graphite below {BETWEEN_EV} eV; diamond",
            100 * crystal.between(crystal.graphite),
            "% of the area",
            100 * crystal.between(crystal.diamond),
        ),
        Row.at_least(
            f"{name}: the former over the latter",
            crystal.between(crystal.graphite) / max(crystal.between(crystal.diamond), 1e-3),
            2.0,
        ),
    ]


def ranking_rows(
    name: str, axis_ev: Array, own: Sequence[Array], true: Sequence[Array], unsaturated: Sequence[float]
) -> tuple[list[Row], dict[str, Any]]:
    """How an oracle orders networks: spectra (E,) of its own and of the reference on one axis.

    ``unsaturated`` is each network's share of atoms that are not four-fold.
    """
    from scipy.stats import spearmanr

    pairs = list(combinations(range(len(own)), 2))
    distances = [[float(np.sqrt(np.mean((s[i] - s[j]) ** 2))) for i, j in pairs] for s in (own, true)]
    pi = [[float(s[axis_ev < PI_BELOW_EV].sum()) for s in spectra] for spectra in (own, true)]
    rank = float(spearmanr(*distances).statistic)
    ordered = [float(spearmanr(one, unsaturated).statistic) for one in pi]
    rows = [
        Row.at_least(f"{name}: rank correlation of pair distances with the reference", rank, 0.5),
        Row.at_least(
            f"{name}: of π* area with the share not four-fold; reference", ordered[0], 0.7, "", ordered[1]
        ),
    ]
    return rows, {
        "own": distances[0],
        "reference": distances[1],
        "pi": pi[0],
        "unsaturated": list(unsaturated),
    }

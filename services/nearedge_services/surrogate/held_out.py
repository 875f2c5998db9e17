"""Predictions on structures that were not trained on, and the calibration drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearedge_db.errors import UserError
from nearedge_services.networks.graph import Batch
from nearedge_services.spectra.distance import spectral_distance
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.surrogate.baseline import baseline_spectra
from nearedge_services.surrogate.calibration import (
    Calibration,
    IntervalScale,
    distance_spread,
    expected_distance,
    fit_excess,
    smoothed,
)
from nearedge_services.surrogate.comparison import area_normalised
from nearedge_services.surrogate.dataset import LabelledStructure
from nearedge_services.surrogate.network import SpectrumNetwork

Array = npt.NDArray[np.float64]

#: Held-out spectra that serve as targets when distances are calibrated.
MAX_TARGETS = 12

#: Parts into which the groups are divided for the coverage of left-out groups.
FOLDS = 8


@dataclass(frozen=True)
class HeldOutCase:
    """Cell mean of one absorber in one structure that was not trained on; spectra in 1/eV, unit area.

    Attributes:
        absorber: element.
        group: network the structure belongs to.
        members: (M, G) prediction of each member.
        baseline: (G,) from the mean spectra of equally coordinated training atoms.
        typical: (G,) mean spectrum of that element in the training set.
        true: (G,) the oracle's.
    """

    absorber: str
    group: str
    members: Array
    baseline: Array
    typical: Array
    true: Array

    @property
    def error(self) -> Array:
        """Ensemble mean minus truth (G,), 1/eV."""
        return self.members.mean(0) - self.true

    @property
    def spread(self) -> Array:
        """Standard deviation of the members (G,), 1/eV, smoothed over the energies."""
        return smoothed(self.members.std(0, ddof=1))


@dataclass(frozen=True)
class Distances:
    """Distances of one case to P targets, 1/eV, each (P,).

    Attributes:
        of_mean: from the ensemble-mean spectrum.
        spread: standard deviation of the members' distances.
        true: from the oracle's spectrum.
    """

    of_mean: Array
    spread: Array
    true: Array


def held_out_cases(
    network: SpectrumNetwork,
    structures: Sequence[LabelledStructure],
    elements: tuple[str, ...],
    absorbers: tuple[str, ...],
    grid: EnergyGrid,
) -> list[HeldOutCase]:
    """Predicted and true cell means of every completely labelled absorber; UserError when there is none."""
    cases: list[HeldOutCase] = []
    for structure in structures:
        batch = Batch.from_atoms([structure.atoms], elements, device=network.means.device)
        with torch.no_grad():
            spectra = network.spectra(batch)
        baseline = baseline_spectra(network.coordination_means, structure.atoms, batch.species)
        for index in (elements.index(absorber) for absorber in absorbers):
            if not structure.complete[index]:
                continue
            chosen = batch.species == index
            cell = [_cell_mean(values, chosen, grid) for values in (spectra, baseline, structure.spectra)]
            typical = area_normalised(network.means[index].double(), grid).cpu().numpy()
            cases.append(HeldOutCase(elements[index], structure.group, cell[0], cell[1], typical, cell[2]))
    if not cases:
        raise UserError(
            "no held-out structure has spectra of all atoms of an absorber",
            fix="label whole structures to hold out",
        )
    return cases


def _cell_mean(spectra: Tensor, chosen: Tensor, grid: EnergyGrid) -> Array:
    return area_normalised(spectra[..., chosen.to(spectra.device), :].double().mean(-2), grid).cpu().numpy()


def distances(case: HeldOutCase, cases: Sequence[HeldOutCase], grid: EnergyGrid) -> Distances:
    """Distances to the true spectra of up to MAX_TARGETS others of the same absorber and to the typical
    one.
    """
    others = [other.true for other in cases if other.absorber == case.absorber and other is not case]
    targets = np.array([*others[:: max(1, -(-len(others) // MAX_TARGETS))], case.typical])
    by_member = spectral_distance(case.members[:, None], targets[None], grid)
    return Distances(
        of_mean=spectral_distance(case.members.mean(0), targets, grid),
        spread=distance_spread(by_member.std(0, ddof=1), case.spread),
        true=spectral_distance(case.true, targets, grid),
    )


def calibrate(cases: Sequence[HeldOutCase], grid: EnergyGrid) -> Calibration:
    """Scales fitted on the cases; see ``calibration`` for the method."""
    n_groups = len({case.group for case in cases})
    spectrum = IntervalScale.fit([c.error for c in cases], [c.spread for c in cases], n_groups)
    pairs = [distances(case, cases, grid) for case in cases]
    variance = np.concatenate(
        [np.full(len(p.true), mean_variance(c, spectrum)) for c, p in zip(cases, pairs, strict=True)]
    )
    of_mean, spread, true = (
        np.concatenate([getattr(pair, name) for pair in pairs]) for name in ("of_mean", "spread", "true")
    )
    excess = fit_excess(of_mean, variance, true)
    errors = expected_distance(of_mean, variance, excess) - true
    distance = IntervalScale.fit(errors, spread, n_groups)
    return Calibration(spectrum=spectrum, distance=distance, excess=excess, structures=n_groups)


def mean_variance(case: HeldOutCase, scale: IntervalScale) -> float:
    """Mean calibrated variance of the cell-mean spectrum, (1/eV)²."""
    return float(np.mean(scale.std(case.spread) ** 2))


def distance_errors(
    case: HeldOutCase, cases: Sequence[HeldOutCase], calibration: Calibration, grid: EnergyGrid
) -> tuple[Array, Array]:
    """Error of the expected distance and its calibrated standard deviation for each target, (P,) 1/eV."""
    pairs = distances(case, cases, grid)
    expected = expected_distance(pairs.of_mean, mean_variance(case, calibration.spectrum), calibration.excess)
    return expected - pairs.true, calibration.distance.std(pairs.spread)


def cross_calibrated_coverage(cases: Sequence[HeldOutCase], grid: EnergyGrid) -> dict[str, float]:
    """Share of truths within 90 % intervals when a group's own errors took no part in the calibration.

    Keys ``coverage_90`` (cell-mean spectrum) and ``distance_coverage_90``; empty with fewer than two groups.
    """
    groups = sorted({case.group for case in cases})
    if len(groups) < 2:
        return {}
    spectrum, distance = [], []
    for fold in range(min(FOLDS, len(groups))):
        left_out = set(groups[fold::FOLDS])
        calibration = calibrate([case for case in cases if case.group not in left_out], grid)
        for case in (case for case in cases if case.group in left_out):
            spectrum.append(calibration.spectrum.covers(case.error, case.spread))
            error, std = distance_errors(case, cases, calibration, grid)
            distance.append(np.abs(error) <= IntervalScale.HALF_WIDTH_90 * std)
    return {
        "coverage_90": float(np.mean(np.concatenate(spectrum))),
        "distance_coverage_90": float(np.mean(np.concatenate(distance))),
    }

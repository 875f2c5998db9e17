"""Part of the bench ``steering``: density and coordination from a spectrum alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import Row
from nearedge.bench.workshop import ELEMENT, Workshop, near
from nearedge_services.inference.library import Library, library_of, read_library
from nearedge_services.inference.posterior import (
    InferenceSettings,
    Interval,
    Posterior,
    SpectrumInference,
    leave_one_out,
    recovery,
)
from nearedge_services.inference.tuning import tuned
from nearedge_services.structures.extxyz import labelled, read_structures
from nearedge_services.weights import LIBRARY_FILE

LIMIT_DENSITY_G_CM3 = 0.15
LIMIT_SHARE_POINTS = 8.0


NETWORKS = "networks.extxyz"


def known_library(prior_folder: Path) -> tuple[Library, str] | None:
    """The labelled networks the models were made from, and their file; None where they are not near the prior."""
    for place in near(prior_folder):
        if (place / LIBRARY_FILE).is_file():
            return read_library(place / LIBRARY_FILE), str(place / LIBRARY_FILE)
        if (place / NETWORKS).is_file():
            frames = [atoms for atoms in read_structures(place / NETWORKS) if labelled(atoms)]
            if frames:
                return library_of(frames, ELEMENT), str(place / NETWORKS)
    return None


def generated_library(
    workshop: Workshop, atoms: int, densities: Sequence[float], at: Callable[[float, str], None]
) -> Library:
    """Unguided structures over the range of densities, refined and labelled by the oracle."""
    cells = workshop.cells(atoms, densities)
    structures: list[Atoms] = []
    for first in range(0, len(cells), 8):
        at(first / len(cells), "library")
        sampled = workshop.sample(cells[first : first + 8], f"library-{first}")
        ends = workshop.refine(sampled.structures, sampled.seeds)
        structures += workshop.label([end.atoms for end in ends])
    return library_of(structures, ELEMENT)


def inference_rows(
    library: Library,
    references: Sequence[Atoms],
    seed: int,
    range_g_cm3: tuple[float, float] | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows and data for labelled references of known density, none of them in the library.

    The density's prior is flat over ``range_g_cm3``, by default over the library's range.
    """
    settings = tuned(library, InferenceSettings(density_g_cm3=range_g_cm3))
    inference = SpectrumInference(library, settings)
    truths = library_of(references, ELEMENT)
    posteriors = [inference.posterior(s, seed + k) for k, s in enumerate(truths.spectra)]
    within = leave_one_out(library, settings, seed)
    rows = [
        *_quantity_rows(posteriors, truths, None, LIMIT_DENSITY_G_CM3, "g/cm³"),
        *_quantity_rows(posteriors, truths, 4, LIMIT_SHARE_POINTS, "points"),
        *_coverage_rows(within, library, "library, leaving each network out"),
        Row.shown("least typicality of a reference's spectrum in the library", _least(posteriors)),
    ]
    data = {
        "settings": settings.model_dump(mode="json"),
        "library_densities_g_cm3": library.densities_g_cm3,
        "library_shares": library.shares,
        "references": [_record(p, truths, k) for k, p in enumerate(posteriors)],
        "leave_one_out": [_record(p, library, k) for k, p in enumerate(within)],
    }
    return rows, data


def _interval(posterior: Posterior, neighbours: int | None) -> Interval:
    return posterior.density() if neighbours is None else posterior.share(neighbours)


def _truths(library: Library, neighbours: int | None) -> np.ndarray:
    return library.densities_g_cm3 if neighbours is None else library.shares[:, neighbours - 2]


def _quantity_rows(
    posteriors: Sequence[Posterior], truths: Library, neighbours: int | None, limit: float, unit: str
) -> list[Row]:
    """Median and largest error against the limit; both decide, the first for most, the second for all."""
    scale = 1.0 if neighbours is None else 100.0
    what = "density" if neighbours is None else f"{neighbours}-fold share"
    intervals = [_interval(posterior, neighbours) for posterior in posteriors]
    values = _truths(truths, neighbours)
    errors = scale * np.abs([interval.median for interval in intervals] - values)
    blind = scale * np.abs(values - np.median(values))
    found = recovery(intervals, values)
    inside = int((errors <= limit).sum())
    return [
        Row.at_most(
            f"{what} from the spectrum alone: median error on {len(values)} references (baseline: their median)",
            float(np.median(errors)),
            limit,
            unit,
            float(np.median(blind)),
        ),
        Row.at_most(
            f"{what}: largest error, {inside} of {len(values)} are within the limit",
            float(errors.max()),
            limit,
            unit,
            float(blind.max()),
        ),
        Row.shown(f"{what}: 90 % intervals that hold the truth, references", found.coverage, "share", 0.9),
        Row.shown(f"{what}: mean width of these intervals", scale * found.mean_width, unit),
    ]


def _coverage_rows(posteriors: Sequence[Posterior], library: Library, words: str) -> list[Row]:
    """What one spectrum can tell of networks that the library knows the like of: coverage, and how many are within the
    limits.
    """
    rows = []
    for neighbours, what, limit in (
        (None, "density", LIMIT_DENSITY_G_CM3),
        (4, "4-fold share", LIMIT_SHARE_POINTS / 100),
    ):
        intervals, values = [_interval(p, neighbours) for p in posteriors], _truths(library, neighbours)
        found = recovery(intervals, values)
        near_enough = np.abs([interval.median for interval in intervals] - values) <= limit
        rows += [
            Row.shown(f"{what}: 90 % intervals that hold the truth, {words}", found.coverage, "share", 0.9),
            Row.shown(f"{what}: within the limit, {words}", float(near_enough.mean()), "share"),
        ]
    return rows


def _least(posteriors: Sequence[Posterior]) -> float:
    return min(posterior.typicality for posterior in posteriors)


def _record(posterior: Posterior, truths: Library, k: int) -> dict[str, Any]:
    density = posterior.density()
    shares = {number: posterior.share(number) for number in (2, 3, 4)}
    return {
        "density_g_cm3": truths.densities_g_cm3[k],
        "density_interval": [density.low, density.median, density.high],
        "shares": truths.shares[k],
        "share_intervals": {n: [i.low, i.median, i.high] for n, i in shares.items()},
        "typicality": posterior.typicality,
    }

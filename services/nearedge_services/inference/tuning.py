"""Choosing the settings of an inference by how well it foretells networks that it was not given."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from nearedge_services.inference.library import Library
from nearedge_services.inference.posterior import (
    Fold,
    InferenceSettings,
    SpectrumInference,
    distinct_densities,
    folds,
)

COMPONENTS = (2, 3, 4, 5, 6)
DEGREES = (1, 2, 3)
TEMPERS = (1.0, 0.8, 0.6, 0.45, 0.3)


def tuned(
    library: Library,
    base: InferenceSettings | None = None,
    components: Sequence[int] = COMPONENTS,
    degrees: Sequence[int] = DEGREES,
    tempers: Sequence[float] = TEMPERS,
) -> InferenceSettings:
    """The settings with the largest mean log probability of the true density, leaving networks out.

    First components and degree, then the temper (Grünwald and van Ommen, Bayesian Anal. 12, 1069 (2017), choose
    it by the same score). Settings that the library is too small for, or too uniform, are passed
    over.
    """
    best = base or InferenceSettings()
    parts = folds(library)
    smallest = min(len(part.library) for part in parts)
    ways = min(len(part.axes.rows) for part in parts)
    densities = min(distinct_densities(part.library) for part in parts)
    shapes = [
        (k, d)
        for k, d in product(components, degrees)
        if k + d + 4 <= smallest and k <= ways and d < densities
    ]
    for changes in (
        [{"components": k, "degree": d} for k, d in shapes],
        [{"temper": temper} for temper in tempers],
    ):
        candidates = [best.model_copy(update=change) for change in changes]
        if candidates:
            best = max(candidates, key=lambda settings: log_score(library, settings, parts))
    return best


def log_score(library: Library, settings: InferenceSettings, parts: Sequence[Fold] | None = None) -> float:
    """Mean over the networks of the log probability density (per g/cm³) at the true density.

    A network outside the range of the others is foretold by the range's end. ``parts``: the library's folds,
    where they are known already.
    """
    scores = []
    for part in parts or folds(library):
        inference = SpectrumInference(part.library, settings, part.axes)
        for index in part.left_out:
            truth = float(library.densities_g_cm3[index])
            scores.append(inference.log_probability(library.spectra[index], truth))
    return float(np.mean(scores))

"""Choosing the settings of an inference by how well it foretells networks that it was not given."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from nearedge_services.inference.library import Library
from nearedge_services.inference.posterior import InferenceSettings, leave_one_out

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
    it by the same score). Settings that the library is too small for are passed over.
    """
    best = base or InferenceSettings()
    smallest = len(library) - max(library.groups.count(group) for group in set(library.groups))
    shapes = [(k, d) for k, d in product(components, degrees) if k + d + 4 <= smallest]
    for changes in (
        [{"components": k, "degree": d} for k, d in shapes],
        [{"temper": temper} for temper in tempers],
    ):
        candidates = [best.model_copy(update=change) for change in changes]
        if candidates:
            best = max(candidates, key=lambda settings: log_score(library, settings))
    return best


def log_score(library: Library, settings: InferenceSettings) -> float:
    """Mean over the networks of the log probability density (per g/cm³) at the true density."""
    scores = []
    for posterior, truth in zip(leave_one_out(library, settings), library.densities_g_cm3, strict=True):
        grid = posterior.densities_g_cm3
        density = posterior.probability / (grid[1] - grid[0])
        # A network outside the range of the others is foretold by the range's end.
        value = float(np.interp(truth, grid, density))
        scores.append(math.log(max(value, 1e-12)))
    return float(np.mean(scores))

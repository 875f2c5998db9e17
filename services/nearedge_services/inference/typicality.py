"""Whether a library knows spectra like these at all."""

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from nearedge_services.inference.posterior import Axes, SpectrumInference, folds

Array = npt.NDArray[np.float64]


def typicalities(inference: SpectrumInference, spectra: Array) -> Array:
    """Of every spectrum (n, G) the smaller of two probabilities, (n,); below 0.01 the library does not know it.

    One is that of `Posterior.typicality`, which looks at the principal components alone. The other is that of a
    network of the library's kind leaving more of its spectrum unexplained by them: the squared remainder is taken
    as a scaled chi-square with the mean and variance that the library's own networks have, each left out in turn
    (Box, Ann. Math. Stat. 25, 290 (1954)).
    """
    count, library = inference.settings.components, inference.library
    own = np.concatenate(
        [_remainders(part.axes, count, library.spectra[list(part.left_out)]) for part in folds(library)]
    )
    scale = own.var(ddof=1) / (2 * own.mean())
    outside = chi2.sf(_remainders(Axes.of(library), count, spectra) / scale, own.mean() / scale)
    within = [inference.typicality(spectrum) for spectrum in spectra]
    return np.minimum(outside, within)


def _remainders(axes: Axes, count: int, spectra: Array) -> Array:
    """Mean square (n,) of what the first principal components leave of spectra (n, G)."""
    centred, basis = spectra - axes.mean, axes.rows[:count]
    return np.asarray(np.mean((centred - centred @ basis.T @ basis) ** 2, axis=1))

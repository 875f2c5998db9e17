"""Noise levels: which ones training sees, and which ones sampling walks through."""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings

Array = npt.NDArray[np.float64]


def training_sigmas(uniform: Array, settings: PriorSettings) -> Array:
    """Noise levels in Å for uniform numbers in (0, 1): log-normal, truncated to the range of the settings."""
    limits = np.log(np.array([settings.sigma_min_a, settings.sigma_max_a]) / settings.sigma_median_a)
    low, high = ndtr(limits / settings.sigma_spread)
    return settings.sigma_median_a * np.exp(settings.sigma_spread * ndtri(low + (high - low) * uniform))


def stratified_uniforms(count: int, rng: np.random.Generator) -> Array:
    """One uniform number in each of `count` equal parts of (0, 1), shuffled: all levels in every step."""
    return rng.permutation((np.arange(count) + rng.random(count)) / count)


def sampling_sigmas(settings: SamplerSettings) -> Array:
    """Descending noise levels in Å, shape (steps + 1,), the last one zero (Karras et al.

    2022, equation 5).
    """
    if settings.steps == 1:
        return np.array([settings.sigma_max, 0.0])
    ramp = np.linspace(
        settings.sigma_max ** (1 / settings.rho), settings.sigma_min ** (1 / settings.rho), settings.steps
    )
    return np.append(ramp**settings.rho, 0.0)

"""Acquisition functions: which scored candidate is worth the next label.

To add one, write a function of this signature and name it in ``POLICIES``.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nearedge_db.errors import UserError

Array = npt.NDArray[np.float64]
Policy = Callable[[Array, Array, float, np.random.Generator], Array]
"""(distances, their standard deviations, best oracle distance, generator) -> usefulness; all in 1/eV, shape (C,)."""


def expected_improvement(mean: Array, std: Array, best: float, generator: np.random.Generator) -> Array:
    """Expected improvement on the best distance, 1/eV (Jones et al., J. Glob. Optim. 13, 455 (1998), eq. 15)."""
    del generator
    std = np.maximum(std, 1e-12)
    z = (best - mean) / std
    return (best - mean) * ndtr(z) + std * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def greedy(mean: Array, std: Array, best: float, generator: np.random.Generator) -> Array:
    """Predicted improvement, blind to uncertainty."""
    del std, generator
    return best - mean


def uncertainty(mean: Array, std: Array, best: float, generator: np.random.Generator) -> Array:
    """Where the surrogate knows least: for mapping, not for finding."""
    del mean, best, generator
    return std


def random(mean: Array, std: Array, best: float, generator: np.random.Generator) -> Array:
    """Chance: the baseline of the others."""
    del std, best
    return generator.random(len(mean))


POLICIES: dict[str, Policy] = {
    "expected_improvement": expected_improvement,
    "greedy": greedy,
    "uncertainty": uncertainty,
    "random": random,
}


def make_policy(name: str) -> Policy:
    """The policy of that name. Raises UserError for an unknown one."""
    if name not in POLICIES:
        raise UserError("unknown acquisition.policy", got=repr(name), fix=f"choose one of {sorted(POLICIES)}")
    return POLICIES[name]


def faded(usefulness: Array, nearest: Array, diversity_scale: float) -> Array:
    """Usefulness, shape (C,), less what is known already.

    ``nearest`` is the fingerprint distance to the nearest structure that has or is getting a label: positive
    usefulness fades linearly to nothing within ``diversity_scale``.
    """
    fade = np.clip(nearest / diversity_scale, 0.0, 1.0) if diversity_scale > 0 else np.ones_like(usefulness)
    return np.where(usefulness > 0, usefulness * fade, usefulness)


def rank(values: Array) -> npt.NDArray[np.intp]:
    """Order of candidates, the largest value first, shape (C,) of indices; equals keep their order."""
    return np.argsort(-values, kind="stable")

"""A tree-structured Parzen estimator: which settings to try next, of what is known of others.

It is what Optuna's ``TPESampler(multivariate=False, constant_liar=True)`` computes, for numbers in a range only. That
one reads all trials anew for every parameter and takes some milliseconds for each suggestion, more than all else
that a driver does for a label. A test holds the two together.

Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011; Watanabe, arXiv:2304.11127.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

STARTUP = 8
"""Values without which suggestions are drawn from the whole range."""
CANDIDATES = 24
"""Drawn from the good trials; the one that is most typical of them is suggested."""
GOOD_SHARE, MOST_GOOD = 0.1, 25
"""Of the trials with a value."""
FINEST = 100.0
"""No kernel is narrower than this part of the range."""
LATEST = 25
"""Trials that count in full; the older ones the less."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """What is known of T trials, oldest first.

    Attributes:
        values: to be made small, shape (T,); NaN of a trial that runs.
        parameters: name -> shape (T,); NaN where a trial does not have it.
    """

    values: Array
    parameters: Mapping[str, Array]


class Parzen:
    """A density on a range: a normal around each value, oldest first, and a wide one, all cut off at the ends."""

    def __init__(self, values: Array, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._centres = np.append(values, 0.5 * (low + high))
        self._widths = np.append(_widths(values, low, high), high - low)
        weights = np.append(_weights(len(values)), 1.0)
        self._weights = weights / weights.sum()
        self._below_range = ndtr((low - self._centres) / self._widths)
        self._in_range = ndtr((high - self._centres) / self._widths) - self._below_range

    def sample(self, generator: np.random.Generator, size: int) -> Array:
        """Draw values, shape (size,)."""
        which = np.searchsorted(self._weights.cumsum()[:-1], generator.uniform(size=size))
        share = self._below_range[which] + generator.uniform(size=size) * self._in_range[which]
        drawn: Array = self._centres[which] + self._widths[which] * ndtri(share)
        return np.clip(drawn, self._low, self._high)

    def density(self, at: Array) -> Array:
        """Probability density at points (P,), shape (P,)."""
        heights = self._weights / (self._widths * self._in_range * math.sqrt(2.0 * math.pi))
        distances = at[:, None] - self._centres
        distances /= self._widths
        distances *= distances
        distances *= -0.5
        return np.asarray(np.exp(distances, out=distances) @ heights)


class Suggestions:
    """Points worth trying, each parameter by itself. A trial that runs counts as a bad one: the constant liar."""

    def __init__(self, ranges: Mapping[str, tuple[float, float]], seed: int) -> None:
        self._ranges = dict(ranges)
        self._generator = np.random.default_rng(seed)

    def next(self, trials: Trials) -> dict[str, float]:
        """What these trials tell to try next."""
        valued = np.flatnonzero(~np.isnan(trials.values))
        if len(valued) < STARTUP:
            return {name: float(self._generator.uniform(*ends)) for name, ends in self._ranges.items()}
        first = min(math.ceil(GOOD_SHARE * len(valued)), MOST_GOOD)
        is_good = np.zeros(len(trials.values), dtype=bool)
        is_good[valued[np.argsort(trials.values[valued], kind="stable")[:first]]] = True
        return {name: self._promising(name, trials.parameters[name], is_good) for name in self._ranges}

    def _promising(self, name: str, values: Array, is_good: npt.NDArray[np.bool_]) -> float:
        low, high = self._ranges[name]
        if low == high:
            return low
        is_there = ~np.isnan(values)
        better, worse = (
            Parzen(values[is_there & is_good], low, high),
            Parzen(values[is_there & ~is_good], low, high),
        )
        drawn = better.sample(self._generator, CANDIDATES)
        return float(drawn[np.argmax(better.density(drawn) / worse.density(drawn))])


def _widths(values: Array, low: float, high: float) -> Array:
    """Of each kernel: the distance to the farther one of its neighbours, within limits; shape (n,)."""
    order = np.argsort(values)
    steps = np.diff(np.concatenate([[low], values[order], [high]]))
    sorted_widths = np.maximum(steps[:-1], steps[1:])
    if len(values) >= 2:  # at the ends the neighbour counts, not the end of the range
        sorted_widths[0], sorted_widths[-1] = steps[1], steps[-2]
    widths = np.empty_like(sorted_widths)
    widths[order] = sorted_widths
    return np.clip(widths, (high - low) / min(FINEST, 2.0 + len(values)), high - low)


def _weights(count: int) -> Array:
    """Of trials, oldest first: the latest count in full, shape (count,)."""
    if count < LATEST:
        return np.ones(count)
    return np.concatenate([np.linspace(1.0 / count, 1.0, count - LATEST), np.ones(LATEST)])

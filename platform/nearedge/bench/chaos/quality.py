"""How good a campaign's answer is, and how much that differs between campaigns that nothing disturbs.

What is computed in which order depends on time, and guided samples depend on what was computed before them: two
campaigns do not end alike, least of all short ones. ``python -m nearedge.bench.chaos.spread 0 1 2`` runs the short
form with these seeds, undisturbed, and prints what `SPREADS` holds. A disturbed campaign may be worse than an
undisturbed one by three of these standard deviations: chance alone is unlikely to do that, and a campaign that
loses its models or its guidance does more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DEVIATIONS = 3.0


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of the sample) of a ratio over undisturbed short campaigns."""

    mean: float
    std: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Spread":
        """That of some campaigns; two at least."""
        return cls(float(np.mean(ratios)), float(np.std(ratios, ddof=1)))

    def limit(self, undisturbed: float | None) -> float:
        """Largest ratio of a disturbed campaign beside an undisturbed one; None: beside those measured before."""
        return (self.mean if undisturbed is None else undisturbed) + DEVIATIONS * self.std


SPREADS = {
    "best over best starting structure": Spread(0.563, 0.099),
    "late over unguided": Spread(0.553, 0.167),
}
"""Guided spectral distances: the smallest, and the median of the last third; both over unguided ones."""

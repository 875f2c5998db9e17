"""Kinds of guidance by name, with what each needs."""

from nearedge_services.diffusion.guidance import (
    ClassifierFreeGuidance,
    CombinedGuidance,
    Guidance,
    NoiseAwareGuidance,
    SpectrumGuidance,
)
from nearedge_services.diffusion.prior import Prior
from nearedge_services.spectra.target import Target
from nearedge_services.surrogate.surrogate import Surrogate

SCALES = {"surrogate": 10.0, "noise-aware": 10.0, "classifier-free": 2.0, "both": 10.0}
"""Strength of each kind where one is needed: of the gradient, for classifier-free guidance its weight."""

BOTH_WEIGHT = 1.0
"""Weight of the classifier-free part of ``both``: the conditional prior, not exaggerated."""


class Guides:
    """Makes guidances for one prior and surrogate."""

    def __init__(self, prior: Prior, surrogate: Surrogate) -> None:
        self.prior = prior
        self.surrogate = surrogate

    @property
    def gradient(self) -> str:
        """The better kind of gradient that the surrogate has."""
        return "noise-aware" if self.missing("noise-aware") is None else "surrogate"

    @property
    def best(self) -> str:
        """The kind for the headline, by what the models have and not by what a run of the bench finds."""
        return self.gradient

    @staticmethod
    def scale(kind: str) -> float:
        """The usual strength of a kind."""
        return SCALES[kind]

    def missing(self, kind: str) -> str | None:
        """What a kind needs and the models do not have; None where nothing is missing."""
        if kind == "noise-aware" and self.surrogate.settings.noise_aware_steps == 0:
            return "the surrogate has no noise-aware network"
        if kind in {"classifier-free", "both"} and self.prior.grid is None:
            return "the prior learnt no spectra"
        return None

    def make(self, kind: str, target: Target, scale: float) -> Guidance:
        """A guidance of this kind towards the target; ``both`` is the conditional prior with a gradient."""
        if kind == "surrogate":
            return SpectrumGuidance(self.surrogate, target, scale)
        if kind == "noise-aware":
            return NoiseAwareGuidance(self.surrogate, target, scale)
        if kind == "classifier-free":
            return ClassifierFreeGuidance(target, scale)
        if kind == "both":
            told = ClassifierFreeGuidance(target, BOTH_WEIGHT)
            return CombinedGuidance([told, self.make(self.gradient, target, scale)])
        raise ValueError(f"unknown {kind=}")

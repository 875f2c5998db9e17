"""Refining generated structures: relaxation, a short anneal, relaxation, on energy plus spectral mismatch.

Example:
    >>> bias = spectral_bias(surrogate, target, settings)                             # doctest: +SKIP
    >>> refined = refine(structures, potential, settings, bias=bias, seeds=[0, 1])    # doctest: +SKIP
    >>> [one.energy_ev for one in refined if not one.failed]                          # doctest: +SKIP
"""

from nearedge_services.refinement.refine import refine, refine_with, spectral_bias
from nearedge_services.refinement.results import Moment, Refined, RefinementStatus
from nearedge_services.refinement.settings import Anneal, RefinementSettings

__all__ = [
    "Anneal",
    "Moment",
    "Refined",
    "RefinementSettings",
    "RefinementStatus",
    "refine",
    "refine_with",
    "spectral_bias",
]

"""Structures on demand: what ``nearedge.generate`` and ``nearedge generate`` do."""

from nearedge.generation.api import generate, generate_iter, prepare
from nearedge.generation.job import Job, structure_seeds
from nearedge.generation.outcomes import Failure, Finished, GenerationError

__all__ = [
    "Failure",
    "Finished",
    "GenerationError",
    "Job",
    "generate",
    "generate_iter",
    "prepare",
    "structure_seeds",
]

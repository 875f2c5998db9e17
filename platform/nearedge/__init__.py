"""Three-dimensional structures of disordered materials from their XANES spectra.

Example:
    >>> import nearedge
    >>> structures = nearedge.generate("C64", density=2.6, count=8, seed=0)              # doctest: +SKIP
    >>> structures[0].calc = nearedge.load_calculator("models:/nearedge-potential@champion")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearedge.calculators import load_calculator
    from nearedge.generation import GenerationError, generate, generate_iter

__all__ = ["GenerationError", "generate", "generate_iter", "load_calculator"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "nearedge.calculators" if name == "load_calculator" else "nearedge.generation"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

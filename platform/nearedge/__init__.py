"""Three-dimensional structures of disordered materials from their XANES spectra.

Example:
    >>> import nearedge
    >>> structures = nearedge.generate("C64", density=2.6, count=8, seed=0)              # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearedge.generation import GenerationError, generate, generate_iter

__all__ = ["GenerationError", "generate", "generate_iter"]


def __getattr__(name: str) -> Any:
    """Import the generation only when it is asked for: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nearedge import generation

    return getattr(generation, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

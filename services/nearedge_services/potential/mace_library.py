"""Brings in MACE without switching off torch's protection against unpickling.

e3nn 0.4 reads its constants (tensors and slices) with ``torch.load``, which since torch 2.6 refuses slices
unless they are declared safe. MACE works around that by setting ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` for the
whole process when it is imported; here the one harmless type is declared instead, and the variable restored.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from types import ModuleType

import torch

_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@cache
def mace_modules() -> ModuleType:
    """The package ``mace.modules``, imported once."""
    before = os.environ.get(_UNSAFE)
    try:
        with quiet(), torch.serialization.safe_globals([slice]):
            from e3nn import o3  # noqa: F401 - first, while slices are declared safe
            from mace import modules
    finally:
        if before is None:
            os.environ.pop(_UNSAFE, None)
        else:
            os.environ[_UNSAFE] = before
    return modules


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps MACE's notices about absent accelerators and TorchScript's about annotations off the terminal."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

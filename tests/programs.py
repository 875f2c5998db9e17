"""Tests that need an electronic-structure program: skipped where it is not installed, failed where it has to be."""

import os
from importlib.util import find_spec
from typing import Any, NoReturn

import pytest

from nearedge_db.errors import UserError
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.factory import make_oracle

REQUIRE_VARIABLE = "NEAREDGE_REQUIRE_DFT"
"""Environment variable: with 1, a program that is not installed is a failure."""


def needs(module: str) -> None:
    """Skip, or fail, the test unless that module (``gpaw``, ``feff10``) is installed."""
    if find_spec(module) is None:
        not_installed(f"no {module}: make dft")


def espresso(settings: dict[str, Any]) -> Oracle:
    """The oracle; skips, or fails, the test unless Quantum ESPRESSO is installed."""
    try:
        return make_oracle("espresso", settings)
    except UserError as missing:
        not_installed(f"no Quantum ESPRESSO: {missing}")


def not_installed(what: str) -> NoReturn:
    """Skip the test; fail it with ``NEAREDGE_REQUIRE_DFT=1``."""
    if os.environ.get(REQUIRE_VARIABLE) == "1":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)

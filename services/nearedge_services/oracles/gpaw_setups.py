"""Whether GPAW is there, and PAW setups with a 1s function, made once and kept."""

import importlib.util
import json
import os
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols

from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import MissingData, NotInstalled
from nearedge_services.oracles.external import Limits, Session

WORKER = Path(__file__).with_name("gpaw_worker.py")
"""The program that runs GPAW; started by its path."""

SETUPS_VARIABLE = "NEAREDGE_GPAW_SETUPS"
"""Environment variable with the folder in which setups are kept; else ``nearedge/gpaw-setups`` in the user's cache."""

HOLES = {"initial-state": 0.0, "half": 0.5, "full": 1.0}
"""Electrons missing in 1s."""

_FIRST_WITH_CORE = 3  # hydrogen and helium have no 1s core
_SETUP_S = 600.0


def check_installed() -> None:
    """Raise UserError with the command that mends it unless GPAW and its data are installed."""
    missing = [name for name in ("gpaw", "gpaw_data") if importlib.util.find_spec(name) is None]
    if missing:
        raise NotInstalled(
            "the oracle gpaw is not installed", got=f"no package {', '.join(missing)}", fix="run `make dft`"
        )


def check_elements(numbers: npt.ArrayLike) -> None:
    """Raise UserError for an element without PBE setup."""
    check_installed()
    symbols = sorted({_symbol(int(z)) for z in np.atleast_1d(numbers)})
    unknown = [symbol for symbol in symbols if not standard_setup(symbol)]
    if unknown:
        raise UserError(
            "gpaw-data has no setup of an element", got=", ".join(unknown), fix="use other elements"
        )


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else str(number)


@cache
def standard_setup(symbol: str) -> Path | None:
    """File of gpaw-data's own setup; None where there is none."""
    path = data_folder() / f"{symbol}.PBE.gz"
    return path if path.is_file() else None


@cache
def data_folder() -> Path:
    """Where gpaw-data keeps its setups."""
    spec = importlib.util.find_spec("gpaw_data")
    if spec is None or not spec.submodule_search_locations:
        raise MissingData("gpaw-data is not installed: run `make dft`")
    return Path(spec.submodule_search_locations[0]) / "setups"


def can_absorb(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which atoms (N,) have a 1s core."""
    return np.asarray(numbers) >= _FIRST_WITH_CORE


def setups_folder() -> Path:
    """Where made setups are kept; each version of GPAW has its own."""
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get(SETUPS_VARIABLE) or cache_folder / "nearedge" / "gpaw-setups")
    try:
        return root / version("gpaw")
    except PackageNotFoundError:
        raise MissingData("gpaw is not installed: run `make dft`") from None


def setup_name(hole: str) -> str:
    """Name of the setups of a kind of `HOLES`."""
    return f"nearedge-{hole}"


def ensure_setup(symbol: str, hole: str) -> Path:
    """The folder with the setup ``SYMBOL.NAME.PBE``, which is made where it is missing.

    Several processes may ask at once: each makes it for itself, and the file appears whole. Raises OracleError where
    GPAW cannot make it.
    """
    folder, name = setups_folder(), setup_name(hole)
    path = folder / f"{symbol}.{name}.PBE"
    if path.is_file():
        return folder
    with Session("gpaw-setup") as session:
        job = {"task": "setup", "symbol": symbol, "name": name, "hole": HOLES[hole]}
        (session.folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        session.run([sys.executable, "-P", str(WORKER)], Limits(seconds=_SETUP_S)).check()
        made = session.folder / path.name
        if not made.is_file():
            raise MissingData(f"GPAW made no setup of {symbol} with a 1s function")
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(made.read_bytes())
        Path(partial).replace(path)
    return folder

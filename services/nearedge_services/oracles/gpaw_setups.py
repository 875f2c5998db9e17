"""Whether GPAW is there, and PAW setups with a 1s function, made once and kept."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
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
_ASK_S = 120.0
_ASK = """import json
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
missing = [name for name in ("gpaw", "gpaw_data") if find_spec(name) is None]
if missing:
    raise SystemExit("no package " + ", ".join(missing))
folder = find_spec("gpaw_data").submodule_search_locations[0] + "/setups"
print(json.dumps([version("gpaw"), folder, hasattr(import_module("_gpaw"), "Communicator")]))
"""


def can_absorb(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which atoms (N,) have a 1s core."""
    return np.asarray(numbers) >= _FIRST_WITH_CORE


def setup_name(hole: str) -> str:
    """Name of the setups of a kind of `HOLES`."""
    return f"nearedge-{hole}"


@dataclass(frozen=True)
class Installation:
    """The GPAW of an interpreter.

    Attributes:
        python: the interpreter.
    """

    python: str = sys.executable

    @property
    def version(self) -> str:
        """Of GPAW. Raises MissingData where there is none."""
        return _found(self.python)[0]

    @property
    def data_folder(self) -> Path:
        """Where gpaw-data keeps its setups. Raises MissingData where there are none."""
        return Path(_found(self.python)[1])

    def check(self, launcher: Sequence[str] = ()) -> None:
        """Raise UserError with what mends it unless GPAW and its data are installed, with MPI for a launcher."""
        try:
            has_mpi = _found(self.python)[2]
        except MissingData as missing:
            raise NotInstalled(
                "the oracle gpaw is not installed", got=missing.reason, fix="run `make dft`"
            ) from None

        if launcher and shutil.which(launcher[0]) is None:
            raise NotInstalled(
                "the launcher of the oracle gpaw cannot be found",
                got=launcher[0],
                fix="give its path in run.launcher",
            )
        if launcher and not has_mpi:
            raise NotInstalled(
                "there is a launcher, and GPAW was built without MPI",
                got=self.python,
                fix="build it as `make dft` does",
            )

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError for an element without PBE setup."""
        self.check()
        symbols = sorted({_symbol(int(z)) for z in np.atleast_1d(numbers)})
        unknown = [symbol for symbol in symbols if not (self.data_folder / f"{symbol}.PBE.gz").is_file()]
        if unknown:
            raise UserError(
                "gpaw-data has no setup of an element", got=", ".join(unknown), fix="use other elements"
            )

    @property
    def setups_folder(self) -> Path:
        """Where made setups are kept; each version of GPAW has its own."""
        cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        root = Path(os.environ.get(SETUPS_VARIABLE) or cache_folder / "nearedge" / "gpaw-setups")
        return root / self.version

    def ensure_setup(self, symbol: str, hole: str) -> Path:
        """The folder with the setup ``SYMBOL.NAME.PBE``, which is made where it is missing.

        Several processes may ask at once: each makes it for itself, and the file appears whole. Raises OracleError
        where GPAW cannot make it.
        """
        folder, name = self.setups_folder, setup_name(hole)
        path = folder / f"{symbol}.{name}.PBE"
        if path.is_file():
            return folder
        with Session("gpaw-setup") as session:
            job = {"task": "setup", "symbol": symbol, "name": name, "hole": HOLES[hole]}
            (session.folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            session.run([self.python, "-P", str(WORKER)], Limits(seconds=_SETUP_S)).check()
            made = session.folder / path.name
            if not made.is_file():
                raise MissingData(f"GPAW made no setup of {symbol} with a 1s function")
            folder.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=folder, suffix=".part")
            with os.fdopen(handle, "wb") as file:
                file.write(made.read_bytes())
            Path(partial).replace(path)
        return folder


@cache
def _found(python: str) -> tuple[str, str, bool]:
    """Version of an interpreter's GPAW, the folder of the setups, and whether it has MPI. Raises MissingData."""
    try:
        ran = subprocess.run(  # noqa: S603 - the interpreter that the settings name
            [python, "-P", "-c", _ASK], capture_output=True, text=True, check=False, timeout=_ASK_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingData(f"{python}: {error}") from error
    if ran.returncode != 0:
        raise MissingData(f"{python}: {(ran.stderr.strip() or 'it said nothing').splitlines()[-1]}")
    version, folder, has_mpi = json.loads(ran.stdout)
    return str(version), str(folder), bool(has_mpi)


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else str(number)

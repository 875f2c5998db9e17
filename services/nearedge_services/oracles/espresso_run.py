"""How Quantum ESPRESSO is run on a site: its programs, the MPI launcher, the pseudopotential folders."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import MissingData, NotInstalled
from nearedge_services.oracles.espresso_files import PwResult, read_pw, read_xspectra
from nearedge_services.oracles.external import Session
from nearedge_services.oracles.per_absorber import RunSettings
from nearedge_services.oracles.pseudopotentials import (
    DEBIAN,
    core_orbital,
    digest,
    digest_of,
    find_pseudopotential,
    read_pseudopotential,
)

Array = npt.NDArray[np.float64]

#: One thread each: workers and MPI processes are what uses the cores.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


class EspressoRun(RunSettings):
    """How the programs are run; nothing here changes a label."""

    launcher: tuple[str, ...] = ()
    """Put before each program, e.g. [mpirun, -n, "4"] or [srun]."""
    pw: tuple[str, ...] = ("pw.x",)
    """Command of pw.x, with options such as -nk 2."""
    xspectra: tuple[str, ...] = ("xspectra.x",)
    """Command of xspectra.x."""
    diagonalization: Literal["david", "cg"] = "david"
    """How pw.x finds the states: by conjugate gradients (`cg`) it takes longer and less memory."""
    pseudo_dirs: tuple[Path, ...] = (
        Path("/usr/share/espresso/pseudo"),
        Path("/usr/share/doc/quantum-espresso/examples/XSpectra/pseudo"),
    )
    """Folders with pseudopotentials, plain or gzipped; the first that has a file wins."""


class Programs:
    """pw.x and xspectra.x as the settings say.

    What the files are is looked up once: whoever has a copy of this object, on whatever node, works with the same ones
    or not at all.
    """

    def __init__(self, settings: EspressoRun, names: Sequence[str] = ()) -> None:
        """``names`` of pseudopotentials whose content counts. Raises UserError for one that cannot be read."""
        self.settings = settings
        self._digests: dict[str, str] = {}
        for name in sorted(set(names)):
            with contextlib.suppress(NotInstalled):  # which `check` tells
                self._digests[name] = digest_of(self.pseudopotential(name))

    def check(self) -> None:
        """Raise UserError unless launcher and programs can be found."""
        for command in (self.settings.launcher[:1], self.settings.pw[:1], self.settings.xspectra[:1]):
            for program in command:
                if shutil.which(program) is None:
                    raise NotInstalled(
                        "a program of the oracle espresso cannot be found",
                        got=program,
                        fix="apt-get install quantum-espresso, or give its path in run.pw, run.xspectra, run.launcher",
                    )

    def pseudopotential(self, name: str) -> Path:
        """The file of that name. Raises UserError where it is in none of the folders."""
        return find_pseudopotential(name, self.settings.pseudo_dirs)

    def _read(self, name: str) -> str:
        """Text of the file of that name. Raises MissingData where it has gone, or is another on this node or now."""
        try:
            text = read_pseudopotential(self.pseudopotential(name))
        except (UserError, OSError) as error:
            raise MissingData(str(error)) from error
        if digest(text) != self._digests.get(name, digest(text)):
            raise MissingData(
                f"the pseudopotential {name} is not the file that it was, or another one on this node"
            )
        return text

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the files by name: what tells two files of one name apart."""
        return {name: digest(self._read(name)) for name in sorted(set(names))}

    def own_digests(self) -> dict[str, str]:
        """SHA-256 of the files that were there and are not Debian's of that name."""
        return {name: value for name, value in self._digests.items() if DEBIAN.get(name) != value}

    def session(self, name: str) -> Session:
        """A scratch folder for one cell."""
        return Session(name)

    def pw(self, session: Session, text: str, names: dict[str, str]) -> PwResult:
        """Run pw.x with the pseudopotentials of the species. Raises as `read_pw`, and for limits that were met."""
        for name in set(names.values()):
            (session.folder / name).write_text(self._read(name))
        (session.folder / "pw.in").write_text(text)
        command = [*self.settings.launcher, *self.settings.pw, "-in", "pw.in"]
        return read_pw(session.run(command, self.settings.limits, environment=_ENVIRONMENT))

    def xspectra(self, session: Session, text: str) -> tuple[Array, Array]:
        """Run xspectra.x beside a finished pw.x. Raises as `read_xspectra`, and for limits that were met."""
        (session.folder / "x.sav").unlink(missing_ok=True)
        (session.folder / "xspectra.in").write_text(text)
        command = [*self.settings.launcher, *self.settings.xspectra, "-in", "xspectra.in"]
        return read_xspectra(
            session.run(command, self.settings.limits, environment=_ENVIRONMENT), session.folder
        )

    def core_file(self, name: str, session: Session) -> Path:
        """The 1s orbital of a pseudopotential, as a file in the session's folder."""
        path = session.folder / f"{name}.core"
        path.write_text(core_orbital(self._read(name), name))
        return path

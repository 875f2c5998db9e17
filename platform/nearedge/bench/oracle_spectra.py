"""Spectra of the bench ``oracles``, each calculated once and kept in the output folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import OracleCancelled, OracleError
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.per_absorber import Finished

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spectra:
    """What an oracle says of one structure.

    Attributes:
        energies_ev: (E,), from the oracle's zero.
        rows: (N, E), zero for atoms that were not calculated.
        seconds: wall-clock time it took, whenever that was.
    """

    energies_ev: Array
    rows: Array
    seconds: float

    @property
    def calculated(self) -> list[int]:
        """Atoms with a spectrum."""
        return [int(index) for index in np.flatnonzero(self.rows.any(axis=1))]

    @property
    def mean(self) -> Array:
        """Over the calculated atoms, (E,), of unit sum."""
        mean = self.rows[self.calculated].mean(axis=0)
        return np.asarray(mean / mean.sum())


class SpectraFolder:
    """Kept spectra; an interrupted bench goes on, and the same calculation serves several parts.

    A file is named by the hashes of settings and structure. ``missing`` says why an oracle is not there, ``failed``
    what could not be calculated.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        self.failed: dict[str, str] = {}

    def look_for(self, oracle: str) -> bool:
        """Whether the oracle is installed; if not, the reason is in ``missing``."""
        try:
            make_oracle(oracle)
        except UserError as error:
            self.missing[oracle] = str(error)
        return oracle not in self.missing

    def find(self, name: str, oracle: str, settings: Mapping[str, Any], atoms: Atoms) -> Spectra | None:
        """The spectra, kept or calculated now; None where the calculation failed.

        Raises UserError for wrong settings or an element that the oracle has not.
        """
        made = make_oracle(oracle, settings)
        kept = Finished(atoms, made.settings_hash, self.folder)
        found = kept.load("label")
        if found is None:
            try:
                label = made.label(atoms)
            except OracleCancelled:
                raise
            except OracleError as error:
                self.failed[name] = f"{type(error).__name__}: {error.reason}"
                return None
            found = {"xanes": label.xanes, "seconds": np.array(label.seconds)}
            kept.keep("label", found)
        return Spectra(made.grid.energies, found["xanes"], float(found["seconds"]))

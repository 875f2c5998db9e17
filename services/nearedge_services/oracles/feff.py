"""FEFF: real-space multiple scattering around one absorber at a time (PyPI `feff10-rs`, FEFF 10).

J. J. Kas et al., J. Synchrotron Rad. 28, 1801 (2021); J. J. Rehr et al., Phys. Chem. Chem. Phys. 12, 5503 (2010).
For every absorber: the cluster around it, self-consistent muffin-tin potentials, full multiple scattering, in a
process of its own. FEFF has neither total energies nor forces: they are taken from another oracle, which the settings
name and whose hash is part of this one's.
"""

import importlib.util
import sys
import time
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from pydantic import BaseModel, ConfigDict, Field

from nearedge_db.hashing import settings_hash
from nearedge_services.oracles.base import Label, check_geometry, check_label
from nearedge_services.oracles.broaden import broadened_on
from nearedge_services.oracles.by_element import ByElement, check_covers, value_of
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.errors import MissingData, NotInstalled
from nearedge_services.oracles.external import Session
from nearedge_services.oracles.feff_files import Cards, feff_input, read_feff
from nearedge_services.oracles.per_absorber import (
    Absorbers,
    Finished,
    Row,
    RunSettings,
    chosen_absorbers,
    installed_version,
    symbols_of,
    turns,
)
from nearedge_services.oracles.xtb import XtbCalculator, XtbOracle
from nearedge_services.spectra.grid import EnergyGrid

#: Raise whenever the same settings would give other labels than before.
RECIPE = 1

#: How much lower than the zero an edge may lie, eV.
_PACKAGE = "feff10-rs"
_EDGE_SCATTER_EV = 5.0

#: The stages that a XANES needs, each a process of its own.
_STAGES = ("rdinp", "atomic", "pot", "screen", "xsph", "fms", "mkgtr", "path", "genfmt", "ff2x")
_PROGRAM = f"""
import feff10
feff10.validate("feff.inp")
stages = [feff10.Stage.from_name(name) for name in {_STAGES}]
config = feff10.FeffConfig("work", feff10.FeffInput.from_file("feff.inp"), stages=stages)
feff10.FeffPipeline(config).run()
"""


class FeffSettings(BaseModel):
    """Settings of the FEFF oracle; all but `run` can change a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    r_scf_a: float = Field(default=3.6, gt=1.0, le=12)
    """Radius of the cluster whose potentials are made self-consistent, Å."""
    r_fms_a: float = Field(default=6.0, gt=1.0, le=12)
    """Radius of the cluster in which the photoelectron scatters, Å."""
    l_max: int = Field(default=2, ge=1, le=4)
    """Largest angular momentum. Carbon needs 2; with 1 it is three times as fast and the Fermi level is off."""
    exchange: Literal["hedin-lundqvist", "dirac-hara", "ground-state"] = "hedin-lundqvist"
    """Self-energy of the photoelectron."""
    core_hole: Literal["rpa", "final-state-rule", "none"] = "rpa"
    """Core hole: screened in the random-phase approximation, self-consistently relaxed, or none."""
    scf_iterations: int = Field(default=100, ge=1, le=100)
    """Iterations of the potentials before the run counts as not converged."""
    mixing: float = Field(default=0.1, gt=0, le=1)
    """Share of the new density in each iteration."""
    sigma_ev: float = Field(default=0.6, gt=0)
    """Standard deviation of the Gaussian broadening, eV, beside the lifetimes that FEFF has itself."""
    start_ev: float = -2.0
    """First energy of the spectra relative to the Fermi level, eV."""
    stop_ev: float = 28.0
    """Last energy of the spectra, eV."""
    step_ev: float = Field(default=0.25, gt=0)
    """Distance of the energies, eV."""
    zero: Literal["fermi", "photon"] = "fermi"
    """Zero of the spectra: each cluster's own Fermi level, or one photon energy for all, which keeps the differences
    of the 1s levels between atoms, and with them the scatter of the clusters' Fermi levels."""
    photon_zero_ev: ByElement = 278.6
    """That photon energy, eV, one for each absorbing element where there are several: FEFF's edge of graphite, which
    is 6 eV too low. Used with `zero: photon` only."""
    absorbers: Absorbers = None
    """Atoms to calculate, counted from 0, or elements; the rows of the others are zero. None: all."""
    energy_from: Literal["xtb"] = "xtb"
    """Where energy and forces come from; FEFF has none."""
    run: RunSettings = RunSettings()
    """How the programs are run."""


def check_installed() -> None:
    """Raise UserError unless FEFF is there."""
    if importlib.util.find_spec("feff10") is None:
        raise NotInstalled(
            "the oracle feff needs FEFF", got="no package feff10", fix="pip install feff10-rs==0.2.4"
        )


class FeffOracle:
    """Labels structures with FEFF's spectra, and energy and forces of xTB."""

    name: str = "feff"

    def __init__(self, settings: FeffSettings | None = None) -> None:
        self.settings = settings or FeffSettings()
        self.grid = EnergyGrid(self.settings.start_ev, self.settings.stop_ev, self.settings.step_ev)
        self.energies = XtbOracle()

    @property
    def settings_hash(self) -> str:
        """Hex digest over name, recipe, settings and the oracle of the energies; without `run`."""
        values = self.settings.model_dump(mode="json", exclude={"run"})
        return settings_hash(
            self.name, {"recipe": RECIPE, **values, "energy_settings": self.energies.settings_hash}
        )

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError for what the oracle of the energies does not know, and for an absorbing element without
        `photon_zero_ev` where that is used. Hydrogen has no spectrum.
        """
        self.energies.check_elements(numbers)
        self._absorbers(numbers, by_index=False)

    def label(self, atoms: Atoms) -> Label:
        """Energy and forces by xTB, and a spectrum of unit area (1/eV) for each absorber.

        Raises UserError (element, absorber) or any OracleError; absorbers that were finished are kept for the next
        try.
        """
        started = time.perf_counter()
        self.check_elements(atoms.numbers)
        check_geometry(atoms)
        absorbers = self._absorbers(atoms.numbers)
        base = self.energies.label(atoms)
        version = installed_version(_PACKAGE)
        finished = Finished(atoms, self.settings_hash, version=version)
        rows = each_absorber(absorbers, partial(self._absorber, atoms, version), finished, self.settings.run)
        xanes = np.zeros((len(atoms), self.grid.size))
        for absorber, row in rows.items():
            xanes[absorber] = row["xanes"]
        label = Label(
            energy_ev=base.energy_ev,
            forces_ev_per_a=base.forces_ev_per_a,
            xanes=xanes,
            energies_ev=self.grid.energies.copy(),
            seconds=time.perf_counter() - started + finished.reused_s,
            details={
                "version": f"{_PACKAGE} {version}",
                "energy_from": self.settings.energy_from,
                "energy_settings_hash": self.energies.settings_hash,
                "absorbers": absorbers,
                "fermi_ev": [round(float(rows[one]["fermi_ev"]), 3) for one in absorbers],
                "edge_ev": [round(float(rows[one]["edge_ev"]), 3) for one in absorbers],
            },
        )
        finished.complete()
        return check_label(label)

    def runs(self, numbers: npt.ArrayLike) -> int:
        """Absorbers that follow each other. Raises UserError as `label`."""
        return turns(self._absorbers(numbers), self.settings.run.workers)

    def _absorbers(self, numbers: npt.ArrayLike, *, by_index: bool = True) -> list[int]:
        there, settings = np.atleast_1d(numbers), self.settings
        chosen = chosen_absorbers(there, there > 2, settings.absorbers, by_index=by_index)
        if settings.zero == "photon":
            symbols = symbols_of(there, chosen)
            check_covers("photon_zero_ev", settings.photon_zero_ev, symbols, one_suits_one=True)
        return chosen

    def calculator(self) -> "EnergyCalculator":
        """ASE calculator of the energy and the forces."""
        return EnergyCalculator(self.energies)

    def _absorber(self, atoms: Atoms, version: str, absorber: int) -> Row:
        settings, grid = self.settings, self.grid
        if installed_version(_PACKAGE) != version:
            raise MissingData(
                f"{_PACKAGE} is of another version than {version} here, where the label is made"
            )
        cards = Cards(
            r_scf_a=settings.r_scf_a,
            r_fms_a=settings.r_fms_a,
            l_max=settings.l_max,
            exchange=settings.exchange,
            core_hole=settings.core_hole,
            iterations=settings.scf_iterations,
            mixing=settings.mixing,
            stop_ev=max(grid.stop_ev + 8 * settings.sigma_ev + _EDGE_SCATTER_EV, 20.0),
        )
        with Session("feff") as session:
            (session.folder / "feff.inp").write_text(feff_input(atoms, absorber, cards))
            command = [sys.executable, "-c", _PROGRAM]
            ran = session.run(command, settings.run.limits, environment={"OMP_NUM_THREADS": "1"})
            ran.check()
            spectrum = read_feff(session.folder / "work", ran.stdout)
        shift = 0.0
        if settings.zero == "photon":
            shift = spectrum.edge_ev - value_of(settings.photon_zero_ev, atoms.symbols[absorber])
        row = broadened_on(grid, spectrum.energies_ev + shift, spectrum.intensity, settings.sigma_ev)
        return {
            "xanes": row,
            "fermi_ev": np.array(spectrum.fermi_ev),
            "edge_ev": np.array(spectrum.edge_ev),
        }


class EnergyCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) of xTB; unlike `XtbCalculator` it keeps no label."""

    implemented_properties: ClassVar[list[str]] = XtbCalculator.implemented_properties

    def __init__(self, oracle: XtbOracle) -> None:
        super().__init__()
        self._inner = oracle.calculator()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Those of ``atoms``. Raises as `XtbOracle.label`."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        self._inner.calculate(self.atoms, ["energy"], system_changes)
        self.results = dict(self._inner.results)

"""The embedded oracle: extended tight binding (GFN1-xTB, GFN2-xTB) through tblite, at the Γ point.

Energy, forces and the XANES of all atoms come from one self-consistent run (with `core_hole: z+1` the spectra
take one more for every atom). Methods: S. Grimme et al., J. Chem. Theory Comput. 13, 1989 (2017); C. Bannwarth
et al., ibid. 15, 1652 (2019). Use cells of 32 atoms or more: one k-point gives a smooth spectrum only where the
cell has many orbitals. The basis is minimal: nothing above about 25 eV is meaningful.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field

from nearedge_db.errors import UserError
from nearedge_db.hashing import settings_hash
from nearedge_services.oracles.base import Label, check_geometry, check_label
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.elsewhere import Compute, Row
from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleCrash, OracleError
from nearedge_services.oracles.external import allowance
from nearedge_services.oracles.fast_blas import prepare_blas
from nearedge_services.oracles.per_absorber import Finished, RunSettings, installed_version
from nearedge_services.oracles.xtb_core_hole import z_plus_one
from nearedge_services.oracles.xtb_xanes import Orbitals, xanes
from nearedge_services.spectra.grid import EnergyGrid

if TYPE_CHECKING:
    from tblite.interface import Calculator as Tblite
    from tblite.interface import Result

#: Raise whenever the same settings would give other labels than before.
RECIPE = 1

_HEAVIEST = 86
_SAFE_DAMPING = 0.1  # of the charge mixer, for a second attempt; tblite's own value is 0.4


class XtbRun(BaseModel):
    """How spectra with a core hole are calculated. Nothing here changes a label.

    There are no programs to be ended: the time is looked at after each absorber.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    elsewhere: int | None = Field(default=None, ge=0)
    """Further absorbers at a time over the nodes of Ray, as `RunSettings.elsewhere`."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall-clock time of the spectra of one label, s."""


class XtbSettings(BaseModel):
    """Settings of the xTB oracle; all but `run` can change a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN1-xTB"
    """Parametrisation. GFN2 is seven times as slow for periodic cells."""
    electronic_temperature_k: float = Field(default=1000.0, gt=0, le=10000)
    """Temperature of the Fermi occupations, K: high enough for metallic Γ-only networks to converge."""
    accuracy: float = Field(default=1.0, gt=0, le=100)
    """tblite's accuracy: thresholds scale with it, smaller is tighter."""
    max_iterations: int = Field(default=250, ge=1)
    """Self-consistent iterations before the run counts as not converged."""
    sigma_ev: float = Field(default=0.6, gt=0)
    """Standard deviation of the Gaussian broadening, eV."""
    start_ev: float = -2.0
    """First energy of the spectra relative to the Fermi level, eV."""
    stop_ev: float = 28.0
    """Last energy of the spectra, eV."""
    step_ev: float = Field(default=0.25, gt=0)
    """Distance of the energies, eV."""
    core_hole: Literal["initial-state", "z+1"] = "initial-state"
    """Spectra of the ground state, or with the absorber replaced by the next element: one more self-consistent
    run for every atom. Energy and forces are those of the ground state either way."""
    run: XtbRun = XtbRun()
    """Of the spectra with a core hole."""

    @property
    def limited(self) -> bool:
        """Whether a label has a time limit: not where it is one run."""
        return self.core_hole == "z+1"


class XtbOracle:
    """Labels structures with xTB.

    Example:
        >>> from ase.build import bulk
        >>> oracle = XtbOracle()
        >>> label = oracle.label(bulk("C", "diamond", 3.57, cubic=True))
        >>> label.xanes.shape
        (8, 121)
    """

    name: str = "xtb"

    def __init__(self, settings: XtbSettings | None = None) -> None:
        self.settings = settings or XtbSettings()
        self.grid = EnergyGrid(self.settings.start_ev, self.settings.stop_ev, self.settings.step_ev)

    @property
    def settings_hash(self) -> str:
        """Hex digest over name, recipe and settings, without `run`."""
        values = self.settings.model_dump(mode="json", exclude={"run"})
        if self.settings.core_hole == "initial-state":
            del values["core_hole"]  # a later setting: labels from before it keep their hash
        return settings_hash(self.name, {"recipe": RECIPE, **values})

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError for an element beyond radon, which xTB has no parameters for, nor for radon's next.

        Hydrogen is allowed; it has no p functions in GFN1, so its rows of the XANES are zero.
        """
        last = _HEAVIEST - (self.settings.core_hole == "z+1")
        unknown = sorted({int(z) for z in np.atleast_1d(numbers) if not 1 <= z <= last})
        if unknown:
            names = ", ".join(
                chemical_symbols[z] if 0 < z < len(chemical_symbols) else str(z) for z in unknown
            )
            raise UserError(
                "xTB has no parameters for an element",
                got=names,
                fix=f"use elements from H to {chemical_symbols[last]}",
            )

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and the XANES of all atoms.

        Raises UserError (element), BadGeometry, NotConverged or OracleCrash; with a core hole OracleTimeout and
        OracleCancelled too, and absorbers that were finished are kept for the next try.
        """
        return self.calculator().label(atoms)

    def finished(self, atoms: Atoms) -> Finished:
        """The absorbers of a structure that are done."""
        return Finished(atoms, self.settings_hash, version=installed_version("tblite"))

    def runs(self, numbers: npt.ArrayLike) -> int:
        """One; with a core hole, one for each atom besides."""
        return 1 if self.settings.core_hole == "initial-state" else 1 + np.size(numbers)

    def calculator(self) -> "XtbCalculator":
        """ASE calculator that starts each self-consistent run from the one before."""
        return XtbCalculator(self)


class XtbCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) by xTB for ASE.

    The density of the step before starts the next one as long as atoms and cell type stay, which saves a third
    to a half of the iterations (10 to 20 % of the time). ``last_label()`` is the label of the geometry calculated
    last and needs no further self-consistent run.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, oracle: XtbOracle) -> None:
        super().__init__()
        self.oracle = oracle
        self._tblite: Tblite | None = None
        self._result: Result | None = None
        self._seconds = 0.0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Run the self-consistent field for ``atoms``. Raises as `XtbOracle.label`."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        if not {"numbers", "pbc"}.isdisjoint(system_changes):
            self._tblite = self._result = None
        started = time.perf_counter()
        result = self._singlepoint(self.atoms)
        energy = float(result.get("energy")) * units.Hartree
        stress = result.get("virial") * units.Hartree / self.atoms.get_volume()
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -result.get("gradient") * units.Hartree / units.Bohr,
            "stress": stress.flat[[0, 4, 8, 5, 2, 1]],
        }
        self._seconds = time.perf_counter() - started

    def label(self, atoms: Atoms) -> Label:
        """Label of ``atoms``: one self-consistent run, or none where they were calculated last."""
        self.get_property("energy", atoms)
        return self.last_label()

    def last_label(self) -> Label:
        """Label of the geometry calculated last. Raises RuntimeError before the first calculation."""
        if self._result is None or self._tblite is None or not self.results:
            raise RuntimeError("nothing was calculated yet")
        started = time.perf_counter()
        settings, grid = self.oracle.settings, self.oracle.grid
        orbitals = _orbitals(self._tblite, self._result)
        kt_ev = settings.electronic_temperature_k * units.kB
        spectra, mu = xanes(orbitals, kt_ev, settings.sigma_ev, grid.energies)
        hole: dict[str, Any] = {}
        spent = self._seconds
        if settings.core_hole == "z+1":
            finished = self.oracle.finished(self.atoms)

            def each(absorbers: Sequence[int], compute: Compute) -> dict[int, Row]:
                with allowance(seconds=settings.run.seconds):
                    return each_absorber(
                        absorbers, compute, finished, RunSettings(elsewhere=settings.run.elsewhere)
                    )

            spectra, shifts = z_plus_one(
                self.atoms,
                orbitals,
                partial(_excited, settings),
                kt_ev,
                settings.sigma_ev,
                grid.energies,
                each,
            )
            hole = {"core_hole": "z+1", "alignment_ev": shifts.round(4).tolist()}
            spent += finished.reused_s
            finished.complete()
        above = orbitals.energies_ev[orbitals.energies_ev > mu]
        below = orbitals.energies_ev[orbitals.energies_ev <= mu]
        label = Label(
            energy_ev=self.results["energy"],
            forces_ev_per_a=self.results["forces"].copy(),
            xanes=spectra,
            energies_ev=grid.energies.copy(),
            seconds=spent + time.perf_counter() - started,
            details={
                "fermi_ev": mu,
                "gap_ev": float(above.min() - below.max()),
                "blas": prepare_blas(),
                "version": f"tblite {installed_version('tblite')}",
                **hole,
            },
        )
        return check_label(label)

    def _singlepoint(self, atoms: Atoms) -> "Result":
        self.oracle.check_elements(atoms.numbers)
        check_geometry(atoms)
        prepare_blas()
        from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError  # BLAS comes first

        try:
            self._result = self._converge(atoms)
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            self._tblite = self._result = None
            raise _translated(str(error)) from error
        return self._result

    def _converge(self, atoms: Atoms) -> "Result":
        """Start from the previous density; failing that, from scratch."""
        from tblite.exceptions import TBLiteRuntimeError

        if self._tblite is not None and self._result is not None:
            try:
                self._tblite.update(atoms.positions / units.Bohr, atoms.cell.array / units.Bohr)
                return self._tblite.singlepoint(self._result)
            except TBLiteRuntimeError:
                self._result = None  # the density of the step before may mislead: begin afresh
        self._tblite, result = _from_scratch(self.oracle.settings, atoms)
        return result


def _excited(settings: XtbSettings, atoms: Atoms) -> Orbitals:
    """Orbitals of a cell with one absorber replaced. Raises as `XtbOracle.label`."""
    prepare_blas()
    from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError  # BLAS comes first

    try:
        return _orbitals(*_from_scratch(settings, atoms))
    except (TBLiteRuntimeError, TBLiteValueError) as error:
        raise _translated(f"with a core hole: {error}") from error


def _from_scratch(settings: XtbSettings, atoms: Atoms) -> "tuple[Tblite, Result]":
    """A converged neutral cell; where it does not converge, with a cautious mixer. tblite's errors pass."""
    from tblite.exceptions import TBLiteRuntimeError

    tblite = _new(settings, atoms)
    try:
        return tblite, tblite.singlepoint()
    except TBLiteRuntimeError as error:
        if not _is_unconverged(str(error)):
            raise
    tblite = _new(settings, atoms)
    tblite.set("mixer-damping", _SAFE_DAMPING)
    return tblite, tblite.singlepoint()


def _new(settings: XtbSettings, atoms: Atoms) -> "Tblite":
    from tblite.interface import Calculator as Tblite

    tblite = Tblite(
        settings.method,
        atoms.numbers,
        atoms.positions / units.Bohr,
        charge=0,
        uhf=0,
        lattice=atoms.cell.array / units.Bohr,
        periodic=np.array([True, True, True]),
    )
    values: dict[str, Any] = {
        "verbosity": 0,
        "save-integrals": 1,
        "accuracy": settings.accuracy,
        "max-iter": settings.max_iterations,
        "temperature": settings.electronic_temperature_k * units.kB / units.Hartree,
    }
    for key, value in values.items():
        tblite.set(key, value)
    return tblite


def _orbitals(tblite: "Tblite", result: "Result") -> Orbitals:
    shell_of = tblite.get("orbital-map")
    return Orbitals(
        energies_ev=result.get("orbital-energies") * units.Hartree,
        coefficients=result.get("orbital-coefficients"),
        overlap=result.get("overlap-matrix"),
        is_p=tblite.get("angular-momenta")[shell_of] == 1,
        atom_of=tblite.get("shell-map")[shell_of],
        n_electrons=round(float(result.get("orbital-occupations").sum()), 6),
    )


def _is_unconverged(message: str) -> bool:
    return "not converged" in message


def _translated(message: str) -> OracleError:
    """tblite says what happened in words only."""
    if _is_unconverged(message):
        return NotConverged(message)
    if "Too close" in message or "eigenvalue problem" in message:
        return BadGeometry(message)
    return OracleCrash(message)

"""GPAW: plane-wave PBE for energy, forces and stress, and XANES from PAW dipole matrix elements.

J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024); M. P. Ljungberg, J. J. Mortensen and L. G. M. Pettersson,
J. Electron Spectrosc. Relat. Phenom. 184, 427 (2011). In the initial state one self-consistent run serves all
absorbers. With a half or a full core hole every absorber takes two runs of its own, for its spectrum and for its
edge: the difference of the total energies of the neutral cell with a full hole and an electron in the lowest empty
state, spin-polarised for the lone 1s electron, and of the ground state. Each run is
a process of its own (`gpaw_worker.py`), or an MPI job where a launcher is given.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit

from nearedge_db.hashing import settings_hash
from nearedge_services.oracles import gpaw_setups
from nearedge_services.oracles.base import Label, check_geometry, check_label
from nearedge_services.oracles.by_element import ByElement, check_covers, value_of
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.errors import MissingData, NotConverged, OracleCrash, UnfitSettings
from nearedge_services.oracles.external import Session
from nearedge_services.oracles.per_absorber import (
    Absorbers,
    Finished,
    Row,
    RunSettings,
    chosen_absorbers,
    symbols_of,
    turns,
)
from nearedge_services.oracles.xtb_xanes import chemical_potential
from nearedge_services.spectra.grid import EnergyGrid

Array = npt.NDArray[np.float64]

#: Raise whenever the same settings would give other labels than before; with a core hole: `HOLE_RECIPE`.
RECIPE = 1
HOLE_RECIPE = 2

_ERRORS = {"NotConverged": NotConverged, "MissingData": MissingData}
"""What the worker says of a failure."""

_GROUND = "ground"
_OF_THE_RUN = {
    "cutoff_ev",
    "k_points",
    "smearing_ev",
    "iterations",
    "density_tolerance",
    "energy_tolerance_ev",
    "states_tolerance",
}
_REACH_SIGMA = 3.0
_EDGE_MARGIN_EV = 4.0
"""How far below `zero_ev` an edge may lie, eV, and the bands still fill the window."""


class GpawRun(RunSettings):
    """How GPAW is run. Nothing here changes a label."""

    launcher: tuple[str, ...] = ()
    """Command in front of Python, for a GPAW built with MPI: ``[mpirun, -np, "4"]``."""
    python: str | None = None
    """Interpreter that has GPAW and its data; default: this one."""
    mixing: float | None = Field(default=None, gt=0, le=1)
    """Share of the new density in each iteration, mixed after Pulay: less is safer. Default: GPAW's own way."""
    eigensolver: Literal["davidson", "cg"] = "davidson"
    """How the states are found: by conjugate gradients (`cg`) it takes longer and less memory."""


class GpawSettings(BaseModel):
    """Settings of the GPAW oracle; all but `run` can change a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    core_hole: Literal["initial-state", "half", "full"] = "initial-state"
    """No hole (one run serves all absorbers), or half a 1s electron, or a whole one, missing (a run for each)."""
    cutoff_ev: float = Field(default=300.0, ge=100)
    """Cutoff of the plane waves, eV."""
    k_points: tuple[int, int, int] = (1, 1, 1)
    """Mesh of k-points along the three lattice vectors; it contains Γ."""
    smearing_ev: float = Field(default=0.1, gt=0)
    """Width of the Fermi occupations, eV."""
    bands_per_atom: float | None = Field(default=None, gt=0)
    """Bands, empty ones included; default: enough for the window. Too few are an error that says how many it takes."""
    iterations: int = Field(default=150, ge=1)
    """Self-consistent iterations before the run counts as not converged."""
    density_tolerance: float = Field(default=1e-4, gt=0)
    """Largest change of the density at convergence, electrons per valence electron."""
    energy_tolerance_ev: float = Field(default=5e-4, gt=0)
    """Largest change of the energy at convergence, eV per valence electron."""
    states_tolerance: float = Field(default=4e-8, gt=0)
    """Largest residual of the states at convergence, eV² per valence electron."""
    zero_ev: ByElement = 284.0
    """Photon energy that is the zero of the spectra with a core hole, eV; one for each absorbing element where there
    are several. Without a hole the Fermi level is the zero, and this only weighs the transitions."""
    sigma_ev: float = Field(default=0.5, gt=0)
    """Standard deviation of the Gaussian broadening, eV."""
    start_ev: float = -2.0
    """First energy of the spectra, eV."""
    stop_ev: float = 15.0
    """Last energy of the spectra, eV."""
    step_ev: float = Field(default=0.25, gt=0)
    """Distance of the energies, eV."""
    absorbers: Absorbers = None
    """Atoms to calculate, counted from 0, or elements; the rows of the others are zero. None: all with a 1s core."""
    run: GpawRun = GpawRun()
    """Processes, limits and launcher of the site."""


class GpawOracle:
    """Labels structures with GPAW.

    Example:
        >>> oracle = GpawOracle(GpawSettings(k_points=(2, 2, 2)))   # doctest: +SKIP
        >>> oracle.label(bulk("C", "diamond", 3.57, cubic=True)).xanes.shape   # doctest: +SKIP
        (8, 69)
    """

    name: str = "gpaw"

    def __init__(self, settings: GpawSettings | None = None) -> None:
        self.settings = settings or GpawSettings()
        self.grid = EnergyGrid(self.settings.start_ev, self.settings.stop_ev, self.settings.step_ev)
        self._gpaw = gpaw_setups.Installation(self.settings.run.python or sys.executable)

    @property
    def settings_hash(self) -> str:
        """Hex digest over name, recipe and settings, without `run`."""
        values = self.settings.model_dump(mode="json", exclude={"run"})
        recipe = RECIPE if self.settings.core_hole == "initial-state" else HOLE_RECIPE
        return settings_hash(self.name, {"recipe": recipe, **values})

    def check_installed(self) -> None:
        """Raise UserError unless GPAW is there, and the launcher, and MPI for it."""
        self._gpaw.check(self.settings.run.launcher)

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError for an element without a PBE setup, or an absorbing one without `zero_ev`."""
        self._gpaw.check_elements(numbers)
        self._absorbers(numbers, by_index=False)

    def label(self, atoms: Atoms) -> Label:
        """Energy and forces of the cell, and a spectrum of unit area (1/eV) for each absorber.

        Raises UserError (element, absorber, installation) or any OracleError; what was finished is kept for the next
        try.
        """
        started = time.perf_counter()
        self.check_elements(atoms.numbers)
        check_geometry(atoms)
        absorbers = self._absorbers(atoms.numbers)
        finished = Finished(atoms, self.settings_hash, version=self._gpaw.version)
        hole = self.settings.core_hole != "initial-state"
        ground = finished.once(_GROUND, lambda: self._ground(atoms, [] if hole else absorbers))
        xanes = np.zeros((len(atoms), self.grid.size))
        details = {**_details(ground), "version": f"gpaw {self._gpaw.version}"}
        if hole:
            rows = each_absorber(
                absorbers,
                partial(self._excited, atoms, ground, self._gpaw.version),
                finished,
                self.settings.run,
            )
            for one, row in rows.items():
                xanes[one] = row["spectrum"]
            details["edges_ev"] = {str(one): float(row["edge_ev"]) for one, row in rows.items()}
        else:
            zeros = [value_of(self.settings.zero_ev, atoms.symbols[one]) for one in absorbers]
            xanes[absorbers] = [self._spectrum(ground, n, 0.0, zero) for n, zero in enumerate(zeros)]
        label = Label(
            energy_ev=float(ground["energy_ev"]),
            forces_ev_per_a=ground["forces"],
            xanes=xanes,
            energies_ev=self.grid.energies.copy(),
            seconds=time.perf_counter() - started + finished.reused_s,
            details=details,
        )
        finished.complete()
        return check_label(label)

    def runs(self, numbers: npt.ArrayLike) -> int:
        """The ground state; with a core hole, two runs for each of the absorbers that follow each other besides.

        Raises UserError as `label`.
        """
        if self.settings.core_hole == "initial-state":
            return 1
        return 1 + 2 * turns(self._absorbers(numbers), self.settings.run.workers)

    def _absorbers(self, numbers: npt.ArrayLike, *, by_index: bool = True) -> list[int]:
        there, settings = np.atleast_1d(numbers), self.settings
        chosen = chosen_absorbers(there, gpaw_setups.can_absorb(there), settings.absorbers, by_index=by_index)
        hole = settings.core_hole != "initial-state"
        check_covers("zero_ev", settings.zero_ev, symbols_of(there, chosen), one_suits_one=hole)
        return chosen

    def calculator(self) -> "GpawCalculator":
        """ASE calculator of energy, forces and stress."""
        return GpawCalculator(self)

    def ground_state(self, atoms: Atoms) -> Row:
        """Energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt) without spectra. Raises as `label`."""
        self.check_elements(atoms.numbers)
        check_geometry(atoms)
        return self._ground(atoms, [])

    def _ground(self, atoms: Atoms, absorbers: list[int]) -> Row:
        # the same setups with and without spectra: energies of both are to agree
        return self._run(atoms, _ground_setups(atoms), absorbers=absorbers, forces=True)

    def _excited(self, atoms: Atoms, ground: Row, version: str, absorber: int) -> Row:
        """Edge and spectrum of one absorber with its core hole; the cell is neutral.

        Raises MissingData where GPAW is of another version than for the rest of the label, as on another node.
        """
        if self._gpaw.version != version:
            raise MissingData(f"GPAW is {self._gpaw.version} here, and {version} where the label is made")
        kind, setups = self.settings.core_hole, _ground_setups(atoms)

        def with_hole(hole: str, absorbers: list[int]) -> Row:
            charge = -gpaw_setups.HOLES[hole]
            return self._run(atoms, {**setups, str(absorber): hole}, absorbers=absorbers, charge=charge)

        excited, full = with_hole(kind, [absorber]), with_hole("full", [])
        edge = float(full["energy_ev"] + full["reference_ev"] - ground["energy_ev"] - ground["reference_ev"])
        zero = value_of(self.settings.zero_ev, atoms.symbols[absorber])
        shift = edge - zero
        if not -_EDGE_MARGIN_EV <= shift < self.grid.stop_ev:
            where = "below the zero" if shift < 0 else "above the window"
            raise UnfitSettings(
                f"the edge of an absorber lies {where} of the spectra: "
                f"got {edge:.1f} eV and zero_ev {zero:g}; set zero_ev near {edge:.0f}"
            )
        excited["occupations"] = without_photoelectron(
            excited, gpaw_setups.HOLES[kind], self.settings.smearing_ev
        )
        return {"edge_ev": np.array(edge), "spectrum": self._spectrum(excited, 0, shift, zero)}

    def _spectrum(self, result: Row, number: int, shift_ev: float, zero_ev: float) -> Array:
        """Spectrum (G,) of unit area of one of the result's absorbers; its Fermi level is ``shift_ev`` above the zero.

        I(E) ∝ Σ (1 − f_n) |<1s|r|n>|² (E₀ + e_n) g(E − e_n): the transition energy makes it an oscillator strength.
        """
        energies = (result["energies_ev"] - result["fermi_ev"]).ravel() + shift_ev
        empty = 1 - result["occupations"].ravel()
        strengths = result["strengths"][number].ravel() * empty * (zero_ev + energies)
        near = energies < self.grid.stop_ev + 8 * self.settings.sigma_ev
        arguments = (self.grid.energies[:, None] - energies[near]) / self.settings.sigma_ev
        curve = np.exp(-0.5 * arguments**2) @ np.clip(strengths[near], 0, None)
        area = float(self.grid.weights @ curve)
        if not area > 0:
            raise OracleCrash("a spectrum is empty: no state that dipoles reach is in the window")
        return curve / area

    def _run(
        self,
        atoms: Atoms,
        kinds: dict[str, str],
        *,
        absorbers: list[int],
        forces: bool = False,
        charge: float = 0.0,
    ) -> Row:
        """One self-consistent run; ``kinds`` names the setup of each element or atom."""
        folders = {self._gpaw.ensure_setup(_symbol(atoms, who), kind) for who, kind in kinds.items()}
        settings = self.settings
        margin = 0.0 if charge == 0 else _EDGE_MARGIN_EV
        job: dict[str, Any] = {
            "task": "calculate",
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "setups": {who: gpaw_setups.setup_name(kind) for who, kind in kinds.items()},
            "absorbers": absorbers,
            "forces": forces,
            "charge": charge,
            # of a cell with a hole whose energy is wanted: half of the 1s shell is a spin
            "spin": charge != 0 and not absorbers,
            "stop_ev": settings.stop_ev + margin + _REACH_SIGMA * settings.sigma_ev,
            "bands": settings.bands_per_atom and round(settings.bands_per_atom * len(atoms)),
            "mixing": settings.run.mixing,
            "eigensolver": settings.run.eigensolver,
            "mpi": bool(settings.run.launcher),
            **settings.model_dump(include=_OF_THE_RUN),
        }
        if not absorbers:
            job["bands"] = None
        with Session("gpaw") as session:
            return self._work(session, job, [*folders, self._gpaw.data_folder])

    def _work(self, session: Session, job: dict[str, Any], paths: list[Path]) -> Row:
        (session.folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        run = self.settings.run
        session.run(
            [*run.launcher, self._gpaw.python, "-P", str(gpaw_setups.WORKER)],
            run.limits,
            environment={
                "GPAW_SETUP_PATH": ":".join(str(path) for path in paths),
                "OMP_NUM_THREADS": "1",
            },
        ).check()
        error = session.folder / "error.json"
        if error.is_file():
            said = json.loads(error.read_text(encoding="utf-8"))
            raise _ERRORS[said["kind"]](said["reason"])
        result = session.folder / "result.npz"
        if not result.is_file():
            raise OracleCrash("GPAW ended without a result")
        with np.load(result, allow_pickle=False) as arrays:
            return dict(arrays)


def without_photoelectron(result: Row, electrons: float, smearing_ev: float) -> Array:
    """Occupations (K, n), from 0 to 1, of the result's states without so many of its electrons.

    A cell with a core hole is neutral by the photoelectron in its lowest empty state, which must not block that
    state: it is a final one. K points of equal weight.
    """
    energies = result["energies_ev"]
    left = 2 * float(result["occupations"].sum()) - electrons * len(energies)
    mu = chemical_potential(np.sort(energies, axis=None), left, smearing_ev)
    return np.asarray(expit((mu - energies) / smearing_ev))


def _ground_setups(atoms: Atoms) -> dict[str, str]:
    """Setups with a 1s function, and no hole in it, for all elements that can absorb."""
    absorbing = gpaw_setups.can_absorb(atoms.numbers)
    return dict.fromkeys(sorted(set(np.array(atoms.get_chemical_symbols())[absorbing])), "initial-state")


def _symbol(atoms: Atoms, who: str) -> str:
    return str(atoms.symbols[int(who)]) if who.isdigit() else who


def _details(ground: Row) -> dict[str, Any]:
    return {
        "fermi_ev": float(ground["fermi_ev"]),
        "bands": int(ground["bands"]),
        "stress_ev_per_a3": [float(value) for value in ground["stress"]],
    }


class GpawCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) by GPAW for ASE, each in a process of its own."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, oracle: GpawOracle) -> None:
        super().__init__()
        self.oracle = oracle

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Run the self-consistent field for ``atoms``. Raises as `GpawOracle.label`."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        ground = self.oracle.ground_state(self.atoms)
        self.results = {
            "energy": float(ground["energy_ev"]),
            "free_energy": float(ground["energy_ev"]),
            "forces": ground["forces"],
            "stress": ground["stress"],
        }

"""Quantum ESPRESSO: pw.x for energy, forces and stress, xspectra.x for K-edge XANES with a core hole in a supercell.

P. Giannozzi et al., J. Phys.: Condens. Matter 21, 395502 (2009); C. Gougoussis, M. Calandra, A. P. Seitsonen and
F. Mauri, Phys. Rev. B 80, 075102 (2009). The defaults find what Debian's packages bring for carbon. Every absorber
takes one self-consistent run of the cell with a core hole (charge +1) and three of xspectra.x, one along each axis,
whose mean is the spectrum of a powder.

The absolute energy of a transition is that of the excited cell less that of the ground state, and of the electron in
the state that it reaches: E(hole, +1) − E(ground) + ε + C, where C is what pseudopotentials leave out: the energy of a
1s electron, of the free atom with all electrons, less the same of the pseudo-atom.
"""

import shutil
import time
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearedge_db.errors import UserError
from nearedge_db.hashing import settings_hash
from nearedge_services.oracles import espresso_files as files
from nearedge_services.oracles.base import Label, check_geometry, check_label
from nearedge_services.oracles.broaden import broadened_on
from nearedge_services.oracles.by_element import ByElement, check_covers, value_of
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.espresso_run import EspressoRun, Programs
from nearedge_services.oracles.per_absorber import (
    Absorbers,
    Finished,
    Row,
    chosen_absorbers,
    symbols_of,
    turns,
)
from nearedge_services.spectra.grid import EnergyGrid

#: Raise whenever the same settings would give other labels than before.
RECIPE = 1

_MARGIN_EV = 2.0


class EspressoSettings(BaseModel):
    """Settings of the Quantum ESPRESSO oracle; all but `run` can change a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff_ry: float = Field(default=60.0, gt=5)
    """Cutoff of the wave functions, Ry."""
    k_spacing_per_a: float = Field(default=0.8, gt=0)
    """Largest distance of k-points, 1/Å (2π included); the mesh contains Γ."""
    smearing_ev: float = Field(default=0.1, gt=0)
    """Gaussian smearing of the occupations, eV."""
    convergence_ry: float = Field(default=1e-8, gt=0)
    """Threshold of self-consistency, Ry."""
    iterations: int = Field(default=100, ge=1)
    """Self-consistent iterations before the run counts as not converged."""
    mixing: float = Field(default=0.3, gt=0)
    """Share of the new density in each iteration."""
    core_hole: Literal["full", "none"] = "full"
    """A whole hole in the absorber's 1s shell, or none (initial state)."""
    image_distance_a: float = Field(default=6.0, ge=0)
    """The cell is repeated for the spectra until core holes are at least this far apart, Å."""
    pseudopotentials: dict[str, str] = {"C": "C_PBE_TM_2pj.UPF"}
    """File of each element. That of an absorber needs GIPAW data."""
    core_hole_pseudopotentials: dict[str, str] = {"C": "Ch_PBE_TM_2pj.UPF"}
    """File of each absorbing element with a 1s hole. Atoms of other elements have rows of zeros."""
    r_paw_bohr: float = Field(default=3.2, gt=0)
    """Radius of the reconstruction in xspectra.x, bohr: that of its own example for these files."""
    lanczos_iterations: int = Field(default=1000, ge=20)
    """Iterations of the continued fraction before it counts as not converged."""
    gamma_ev: float = Field(default=0.3, gt=0)
    """Lorentzian broadening of xspectra.x, eV."""
    sigma_ev: float = Field(default=0.5, gt=0)
    """Standard deviation of the further, Gaussian broadening, eV."""
    core_energy_ev: ByElement = 392.553
    """C of the absolute energies, eV; one for each absorbing element where there are several. For the default files:
    399.288 from ld1.x (all electrons, scalar-relativistic PBE, 1s² and 1s¹ with 2s² 2p^1.5) and the total energies in
    the files, less 6.736, by which the lone 1s spin lowers the energy of the atom (LSDA: ld1.x has no spin-polarised
    PBE). Used with a core hole only."""
    zero_ev: ByElement = 284.0
    """Photon energy that is the zero of the spectra with a core hole, eV, as `core_energy_ev`. Without a hole the
    Fermi level is the zero."""
    start_ev: float = -2.0
    """First energy of the spectra, eV."""
    stop_ev: float = 28.0
    """Last energy of the spectra, eV."""
    step_ev: float = Field(default=0.25, gt=0)
    """Distance of the energies, eV."""
    absorbers: Absorbers = None
    """Atoms to calculate, counted from 0, or elements; the rows of the others are zero. None: all that have a
    pseudopotential with a hole."""
    run: EspressoRun = EspressoRun()
    """Programs, launcher and folders of the site."""

    @model_validator(mode="after")
    def _has_the_energy_of_its_files(self) -> Self:
        """`core_energy_ev` belongs to two files: without it those of a site would be off by tens of eV."""
        pairs = {
            symbol: (self.pseudopotentials.get(symbol), hole)
            for symbol, hole in self.core_hole_pseudopotentials.items()
        }
        ours = pairs == {"C": ("C_PBE_TM_2pj.UPF", "Ch_PBE_TM_2pj.UPF")}
        if self.core_hole == "full" and not ours and "core_energy_ev" not in self.model_fields_set:
            raise ValueError(f"no core_energy_ev, which the default files have, for {pairs}")
        return self


class EspressoOracle:
    """Labels structures with Quantum ESPRESSO."""

    name: str = "espresso"

    def __init__(self, settings: EspressoSettings | None = None) -> None:
        self.settings = settings or EspressoSettings()
        self.grid = EnergyGrid(self.settings.start_ev, self.settings.stop_ev, self.settings.step_ev)
        self.programs = Programs(self.settings.run, self._pseudopotentials())

    @property
    def settings_hash(self) -> str:
        """Hex digest over name, recipe and settings, without `run`, and over what is in the pseudopotentials."""
        identity = {"recipe": RECIPE, **self.settings.model_dump(mode="json", exclude={"run"})}
        other_files = self.programs.own_digests()
        if other_files:  # those of Debian count by their names, as they did before
            identity["digests"] = other_files
        return settings_hash(self.name, identity)

    def _pseudopotentials(self) -> list[str]:
        settings = self.settings
        return [*settings.pseudopotentials.values(), *settings.core_hole_pseudopotentials.values()]

    def check_installed(self) -> None:
        """Raise UserError unless the programs and all pseudopotentials are there."""
        self.programs.check()
        for name in self._pseudopotentials():
            self.programs.pseudopotential(name)

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError for an element without a pseudopotential, or an absorbing one without its energies."""
        symbols = {chemical_symbols[int(z)] for z in np.atleast_1d(numbers)}
        unknown = sorted(symbols - set(self.settings.pseudopotentials))
        if unknown:
            raise UserError(
                "espresso has no pseudopotential of an element",
                got=", ".join(unknown),
                fix="name one in the setting pseudopotentials, e.g. pseudopotentials={C: ..., Si: Si.UPF}",
            )
        self._absorbers(numbers, by_index=False)

    def label(self, atoms: Atoms) -> Label:
        """Energy and forces of the cell, and a spectrum of unit area (1/eV) for each absorber.

        Raises UserError (element, absorber) or any OracleError; what was finished is kept for the next try.
        """
        started = time.perf_counter()
        self.check_elements(atoms.numbers)
        check_geometry(atoms)
        settings, finished = self.settings, Finished(atoms, self.settings_hash)
        absorbers = self._absorbers(atoms.numbers)
        times = files.repeats(atoms, settings.image_distance_a)
        ground = finished.once("ground", lambda: self._ground(atoms))
        reference = ground
        if settings.core_hole == "full" and times != (1, 1, 1):
            reference = finished.once("supercell", lambda: self._ground(atoms.repeat(times)))
        rows = each_absorber(
            absorbers,
            partial(self._absorber, atoms, times, float(reference["energy_ev"])),
            finished,
            settings.run,
        )
        xanes = np.zeros((len(atoms), self.grid.size))
        for absorber, row in rows.items():
            xanes[absorber] = row["xanes"]
        label = Label(
            energy_ev=float(ground["energy_ev"]),
            forces_ev_per_a=ground["forces"],
            xanes=xanes,
            energies_ev=self.grid.energies.copy(),
            seconds=time.perf_counter() - started + finished.reused_s,
            details={
                "version": str(ground.get("version", "pw.x")),
                "fermi_ev": float(ground["fermi_ev"]),
                "stress_ev_per_a3": ground["stress"].tolist(),
                "supercell": list(times),
                "k_mesh": list(files.mesh(atoms, settings.k_spacing_per_a)),
                "absorbers": absorbers,
                "onset_ev": [round(float(rows[one]["onset_ev"]), 3) for one in absorbers],
                "pseudopotentials": self.programs.digests(self._pseudopotentials()),
            },
        )
        finished.complete()
        return check_label(label)

    def runs(self, numbers: npt.ArrayLike) -> int:
        """The ground state, and absorbers that follow each other. Raises UserError as `label`."""
        return 1 + turns(self._absorbers(numbers), self.settings.run.workers)

    def _absorbers(self, numbers: npt.ArrayLike, *, by_index: bool = True) -> list[int]:
        there, settings = np.atleast_1d(numbers), self.settings
        absorbing = [chemical_symbols[z] in settings.core_hole_pseudopotentials for z in there]
        chosen = chosen_absorbers(there, np.array(absorbing), settings.absorbers, by_index=by_index)
        if settings.core_hole == "full":
            symbols = symbols_of(there, chosen)
            check_covers("zero_ev", settings.zero_ev, symbols, one_suits_one=True)
            check_covers("core_energy_ev", settings.core_energy_ev, symbols, one_suits_one=True)
        return chosen

    def calculator(self) -> "PwCalculator":
        """ASE calculator of energy, forces and stress by pw.x."""
        return PwCalculator(self)

    def plane(self, atoms: Atoms) -> files.Plane:
        """The numbers of a run on this cell."""
        settings = self.settings
        return files.Plane(
            settings.cutoff_ry,
            files.mesh(atoms, settings.k_spacing_per_a),
            settings.smearing_ev,
            settings.convergence_ry,
            settings.iterations,
            settings.mixing,
            settings.run.diagonalization,
        )

    def _ground(self, atoms: Atoms) -> Row:
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        with self.programs.session("pw") as session:
            result = self.programs.pw(
                session, files.pw_input(bare, self._files(bare), self.plane(bare), 0.0), self._files(bare)
            )
        return {
            "energy_ev": np.array(result.energy_ev),
            "fermi_ev": np.array(result.fermi_ev),
            "forces": result.forces_ev_per_a,
            "stress": result.stress_ev_per_a3,
            "version": np.array(result.version),
        }

    def _files(self, atoms: Atoms) -> dict[str, str]:
        return {symbol: self.settings.pseudopotentials[symbol] for symbol in set(atoms.symbols)}

    def _absorber(self, atoms: Atoms, times: tuple[int, int, int], reference_ev: float, absorber: int) -> Row:
        settings, symbol, hole = self.settings, atoms.symbols[absorber], self.settings.core_hole == "full"
        cell = files.excited_cell(atoms, absorber, times)
        names = {one: settings.pseudopotentials[one] for one in sorted(set(cell.symbols) - {files.ABSORBER})}
        own = settings.pseudopotentials[symbol]
        names[files.ABSORBER] = settings.core_hole_pseudopotentials[symbol] if hole else own
        plane = self.plane(cell)
        with self.programs.session("xspectra") as session:
            result = self.programs.pw(session, files.pw_input(cell, names, plane, float(hole)), names)
            # energies of the grid less these are orbital energies less the Fermi level
            onset, offset = result.fermi_ev, 0.0
            if hole:
                onset += result.energy_ev - reference_ev + value_of(settings.core_energy_ev, symbol)
                offset = value_of(settings.zero_ev, symbol) - onset
            margin = 8 * settings.sigma_ev + _MARGIN_EV
            range_ev = (self.grid.start_ev + offset - margin, self.grid.stop_ev + offset + margin)
            shutil.copyfile(self.programs.core_file(own, session), session.folder / "core.wfc")
            curves = [
                self.programs.xspectra(
                    session,
                    files.xspectra_input(
                        axis,
                        plane.k_mesh,
                        zero_ev=result.fermi_ev,
                        range_ev=range_ev,
                        gamma_ev=settings.gamma_ev,
                        r_paw_bohr=settings.r_paw_bohr,
                        iterations=settings.lanczos_iterations,
                    ),
                )
                for axis in range(3)
            ]
        mean = np.mean([intensity for _, intensity in curves], axis=0)
        return {
            "xanes": broadened_on(self.grid, curves[0][0] - offset, mean, settings.sigma_ev),
            "onset_ev": np.array(onset),
        }


class PwCalculator(Calculator):
    """Energy (eV), forces (eV/Å) and stress (eV/Å³) by pw.x."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, oracle: EspressoOracle) -> None:
        super().__init__()
        self._oracle = oracle

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Run pw.x on ``atoms``. Raises as `EspressoOracle.label`."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        self._oracle.check_elements(self.atoms.numbers)
        check_geometry(self.atoms)
        found = self._oracle._ground(self.atoms)
        energy = float(found["energy_ev"])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": found["forces"],
            "stress": found["stress"],
        }

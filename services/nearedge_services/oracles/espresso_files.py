"""What pw.x and xspectra.x read and write; through ASE where it knows how."""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.io.espresso import read_espresso_out, write_espresso_in

from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleCrash, OutOfMemory
from nearedge_services.oracles.external import Ran
from nearedge_services.oracles.failures import short_of_memory

Array = npt.NDArray[np.float64]

#: Name of the absorber's species: an element that ASE writes and no material has.
ABSORBER = "X"

_PROGRAM = re.compile(r"Program PWSCF v\.(\S+)")
_UNCONVERGED = ("too many bands are not converged", "eigenvectors failed to converge", "charge is wrong")
_ERROR = re.compile(r"%{20,}\s*\n(.*?)\n\s*%{20,}", re.DOTALL)


def mesh(atoms: Atoms, spacing_per_a: float) -> tuple[int, int, int]:
    """The smallest Γ-centred mesh whose points lie no farther apart than ``spacing_per_a`` (1/Å, 2π included)."""
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    first, second, third = (max(1, int(np.ceil(length / spacing_per_a - 1e-6))) for length in lengths)
    return first, second, third


def repeats(atoms: Atoms, distance_a: float) -> tuple[int, int, int]:
    """How often to repeat the cell until its layers are ``distance_a`` Å apart in each direction."""
    heights = 1 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    first, second, third = (max(1, int(np.ceil(distance_a / height - 1e-6))) for height in heights)
    return first, second, third


def excited_cell(atoms: Atoms, absorber: int, times: tuple[int, int, int]) -> Atoms:
    """The cell repeated, one atom being the species `ABSORBER`, which comes first."""
    cell = Atoms(atoms.get_chemical_symbols(), atoms.positions, cell=atoms.cell, pbc=True).repeat(times)
    symbols = cell.get_chemical_symbols()
    symbols[absorber] = ABSORBER
    cell.set_chemical_symbols(symbols)
    rest = [index for index in range(len(cell)) if index != absorber]
    return cell[[absorber, *rest]]


@dataclass(frozen=True)
class Plane:
    """The numbers of a pw.x run.

    Attributes:
        cutoff_ry: of the wave functions, Ry.
        k_mesh: Γ-centred.
        smearing_ev: Gaussian, eV.
        convergence_ry: threshold of self-consistency, Ry.
        iterations: at most.
        mixing: share of the new density.
        diagonalization: how the states are found.
    """

    cutoff_ry: float
    k_mesh: tuple[int, int, int]
    smearing_ev: float
    convergence_ry: float
    iterations: int
    mixing: float
    diagonalization: str = "david"


def pw_input(atoms: Atoms, pseudopotentials: dict[str, str], plane: Plane, charge: float) -> str:
    """Input of a self-consistent run without symmetry: its k-points are those of xspectra.x."""
    values: dict[str, Any] = {
        "control": {
            "calculation": "scf",
            "prefix": "cell",
            "outdir": "out",
            "pseudo_dir": ".",
            "tprnfor": True,
            "tstress": True,
            "disk_io": "low",
        },
        "system": {
            "ecutwfc": plane.cutoff_ry,
            "occupations": "smearing",
            "smearing": "gaussian",
            "degauss": plane.smearing_ev / 13.605693,
            "tot_charge": charge,
            "nosym": True,
        },
        "electrons": {
            "conv_thr": plane.convergence_ry,
            "electron_maxstep": plane.iterations,
            "mixing_beta": plane.mixing,
            "diagonalization": plane.diagonalization,
        },
    }
    text = io.StringIO()
    write_espresso_in(
        text,
        atoms,
        input_data=values,
        pseudopotentials=pseudopotentials,
        kpts=plane.k_mesh,
        koffset=(0, 0, 0),
    )
    return text.getvalue()


@dataclass(frozen=True)
class PwResult:
    """What pw.x found: energies in eV, forces (N, 3) eV/Å, stress (6,) eV/Å³ in Voigt order; and which pw.x it was."""

    energy_ev: float
    fermi_ev: float
    forces_ev_per_a: Array
    stress_ev_per_a3: Array
    version: str


def read_pw(ran: Ran) -> PwResult:
    """The result of a run. Raises NotConverged, BadGeometry or OracleCrash where there is none."""
    text = ran.stdout.read_text(errors="replace")
    if "convergence NOT achieved" in text:
        raise NotConverged("pw.x: the density did not become self-consistent")
    _raise_error_box("pw.x", text)
    ran.check()
    if "JOB DONE" not in text:
        raise OracleCrash("pw.x: it ended without saying that it was done")
    try:
        atoms = list(read_espresso_out(io.StringIO(text), slice(None)))[-1]
        return PwResult(
            float(atoms.get_potential_energy()),
            float(atoms.calc.get_fermi_level()),
            atoms.get_forces(),
            atoms.get_stress(),
            _version(text),
        )
    except (ValueError, IndexError, AttributeError, KeyError, RuntimeError) as error:
        raise OracleCrash(f"pw.x: its output cannot be read: {type(error).__name__}: {error}") from error


def _version(text: str) -> str:
    found = _PROGRAM.search(text)
    return f"pw.x {found[1]}" if found else "pw.x"


def _raise_error_box(program: str, text: str) -> None:
    """Quantum ESPRESSO says why it stops in a box of percent signs."""
    found = _ERROR.search(text)
    if found is None:
        return
    said = " ".join(found[1].split())
    if "too close" in said or "overlap" in said or "atoms #" in said:
        raise BadGeometry(f"{program}: {said}")
    if any(words in said for words in _UNCONVERGED):
        raise NotConverged(f"{program}: {said}")
    if short_of_memory(said):
        raise OutOfMemory(f"{program}: {said}")
    raise OracleCrash(f"{program}: {said}")


def xspectra_input(
    polarisation: int,
    k_mesh: tuple[int, int, int],
    *,
    zero_ev: float,
    range_ev: tuple[float, float],
    gamma_ev: float,
    r_paw_bohr: float,
    iterations: int,
) -> str:
    """Input of a dipole XANES along one Cartesian axis (0, 1, 2). Energies in ``range_ev`` count from ``zero_ev``.

    Occupied states are cut off there.
    """
    epsilon = [float(axis == polarisation) for axis in range(3)]
    points = int((range_ev[1] - range_ev[0]) / 0.05) + 1
    return f"""&input_xspectra
  calculation='xanes_dipole', prefix='cell', outdir='out', x_save_file='x.sav',
  xniter={iterations}, xcheck_conv=20, xerror=0.001, xiabs=1, xcoordcrys=.false.,
  xepsilon(1)={epsilon[0]}, xepsilon(2)={epsilon[1]}, xepsilon(3)={epsilon[2]}, xe0={zero_ev:.6f},
/
&plot
  xnepoint={points}, xgamma={gamma_ev}, xemin={range_ev[0]:.6f}, xemax={range_ev[1]:.6f},
  terminator=.true., cut_occ_states=.true.,
/
&pseudos
  filecore='core.wfc', r_paw(1)={r_paw_bohr},
/
&cut_occ
  cut_desmooth=0.1, cut_stepl=0.01,
/
{" ".join(str(count) for count in k_mesh)} 0 0 0
"""


def read_xspectra(ran: Ran, folder: Path) -> tuple[Array, Array]:
    """Energies (E,) eV from the run's zero, and the cross-section (E,).

    Raises NotConverged where a continued fraction did not converge, OracleCrash where there is no spectrum.
    """
    text = ran.stdout.read_text(errors="replace")
    _raise_error_box("xspectra.x", text)
    ran.check()
    if text.count("=> CONVERGED") < max(1, text.count("k-point #")):
        raise NotConverged("xspectra.x: the continued fraction did not converge")
    table = folder / "xanes.dat"
    if not table.is_file():
        raise OracleCrash("xspectra.x left no xanes.dat")
    rows = [line.split()[:2] for line in table.read_text().splitlines() if not line.lstrip().startswith("#")]
    table.unlink()  # so that the next polarisation cannot be mistaken for this one
    try:
        columns = np.array(rows, dtype=float)
    except ValueError as error:
        raise OracleCrash(f"xspectra.x: xanes.dat cannot be read: {error}") from error
    if columns.ndim != 2 or len(columns) < 2:
        raise OracleCrash("xspectra.x: xanes.dat is empty")
    return columns[:, 0], columns[:, 1]

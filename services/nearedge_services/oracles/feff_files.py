"""What FEFF reads and writes: a cluster around one absorber, and the spectrum of it."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import chemical_symbols

from nearedge_services.oracles.errors import BadGeometry, NotConverged, OracleCrash
from nearedge_services.oracles.external import tail
from nearedge_services.structures.neighbours import find_pairs

Array = npt.NDArray[np.float64]

#: ħ²/2m in eV Å².
_HBAR2_2M = 3.81

_EXCHANGE = {"hedin-lundqvist": 0, "dirac-hara": 1, "ground-state": 2}
_CORE_HOLE = {"rpa": "RPA", "final-state-rule": "FSR", "none": "NONE"}


@dataclass(frozen=True)
class Cards:
    """The numbers of a FEFF input; lengths in Å, energies in eV.

    Attributes:
        r_scf_a: radius of the cluster whose density is made self-consistent.
        r_fms_a: radius of the cluster in which the photoelectron scatters.
        l_max: largest angular momentum in both.
        exchange: self-energy model: ``hedin-lundqvist``, ``dirac-hara`` or ``ground-state``.
        core_hole: ``rpa`` (screened), ``final-state-rule`` or ``none``.
        iterations: of self-consistency, at most.
        mixing: share of the new density in each of them.
        stop_ev: last energy needed above the Fermi level.
    """

    r_scf_a: float
    r_fms_a: float
    l_max: int
    exchange: str
    core_hole: str
    iterations: int
    mixing: float
    stop_ev: float


def feff_input(atoms: Atoms, absorber: int, cards: Cards) -> str:
    """``feff.inp`` of the cluster around an atom of a periodic structure.

    Atoms of one element share a potential; the absorber has its own. Raises BadGeometry where it has no neighbour.
    """
    pairs = find_pairs(atoms, max(cards.r_scf_a, cards.r_fms_a) + 1e-6)
    mine = pairs.i == absorber
    if not (pairs.distances_a[mine] <= cards.r_scf_a).any():
        raise BadGeometry(f"atom {absorber} has no neighbour within {cards.r_scf_a} Å")
    # ties of equal distances are broken by element and place, not by the order of the atoms
    vectors, numbers = pairs.vectors_a[mine], atoms.numbers[pairs.j[mine]]
    order = np.lexsort((*vectors.round(6).T, numbers, pairs.distances_a[mine].round(6)))
    elements = sorted({int(z) for z in numbers})
    center, in_cell = int(atoms.numbers[absorber]), atoms.numbers.tolist()
    lines = [
        "EDGE K",
        "S02 1.0",
        "CONTROL 1 1 1 1 1 1",
        "PRINT 0 0 0 0 0 0",
        f"EXCHANGE {_EXCHANGE[cards.exchange]} 0.0 0.0",
        f"COREHOLE {_CORE_HOLE[cards.core_hole]}",
        f"SCF {cards.r_scf_a:.6f} 0 {cards.iterations} {cards.mixing:.4f} 1",
        f"FMS {cards.r_fms_a:.6f} 0",
        f"XANES {np.sqrt(cards.stop_ev / _HBAR2_2M):.4f} 0.04 0.1",
        "POTENTIALS",
        f"0 {center} {chemical_symbols[center]} {cards.l_max} {cards.l_max} 0.01",
    ]
    for number, z in enumerate(elements, start=1):
        lines.append(f"{number} {z} {chemical_symbols[z]} {cards.l_max} {cards.l_max} {in_cell.count(z)}")
    lines += ["ATOMS", f"0.0 0.0 0.0 0 {chemical_symbols[center]} 0.0"]
    for one in order:
        x, y, z = vectors[one]
        symbol = chemical_symbols[numbers[one]]
        distance = float(np.linalg.norm(vectors[one]))
        lines.append(
            f"{x:.8f} {y:.8f} {z:.8f} {elements.index(int(numbers[one])) + 1} {symbol} {distance:.8f}"
        )
    return "\n".join([*lines, "END", ""])


@dataclass(frozen=True)
class FeffSpectrum:
    """Absorption of one absorber.

    Attributes:
        energies_ev: (E,) ascending, from the cluster's Fermi level.
        intensity: (E,) absorption, arbitrary but common units.
        fermi_ev: that level on FEFF's own axis.
        edge_ev: its absolute photon energy, eV; FEFF's edges of light elements are several eV too low.
    """

    energies_ev: Array
    intensity: Array
    fermi_ev: float
    edge_ev: float


def read_feff(folder: Path, stdout: Path) -> FeffSpectrum:
    """The spectrum that FEFF left in a folder; ``stdout`` is the file with what it printed.

    Raises NotConverged where the potentials did not become self-consistent, OracleCrash where results are missing
    or cannot be read.
    """
    table, log = folder / "xmu.dat", folder / "log1.dat"
    if not (table.is_file() and log.is_file()):
        raise OracleCrash(f"FEFF left no spectrum: {tail(stdout) or 'it said nothing'}")
    if "Convergence reached" not in log.read_text(errors="replace"):
        raise NotConverged("FEFF: the potentials did not become self-consistent")
    text = table.read_text(errors="replace")
    found = re.search(r"Mu=\s*([-+.\dE]+)eV", text)
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        columns = np.array(rows, dtype=float)
    except ValueError as error:
        raise OracleCrash(f"FEFF: xmu.dat cannot be read: {error}") from error
    if found is None or columns.ndim != 2 or columns.shape[0] < 2 or columns.shape[1] < 4:
        raise OracleCrash(f"FEFF: xmu.dat is not complete: {len(rows)} rows")
    fermi = float(found[1])
    return FeffSpectrum(
        columns[:, 1] - fermi, columns[:, 3], fermi, float(columns[0, 0] - columns[0, 1] + fermi)
    )

"""What every oracle offers: one structure in, one label (energy, forces, XANES) out.

Example:
    >>> oracle = make_oracle("xtb", {})                      # doctest: +SKIP
    >>> labelled = oracle.label(atoms).attach(atoms)         # doctest: +SKIP
    >>> labelled.info["REF_energy"], labelled.arrays["xanes"].shape   # doctest: +SKIP
"""

import json
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import BaseModel

from nearedge_services.oracles.errors import BadGeometry, NotFinite, OracleCrash
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.structures.extxyz import DETAILS
from nearedge_services.structures.neighbours import find_pairs

Array = npt.NDArray[np.float64]

#: A force above this (eV/Å) means overlapping atoms or a broken calculation, never a network worth learning
#: from.
MAX_FORCE_EV_PER_A = 200.0

#: Atoms closer than this (Å) overlap: the shortest bond of all, in H2, is 0.74 Å.
MIN_CONTACT_A = 0.5


@dataclass(frozen=True)
class Label:
    """One oracle calculation of N atoms on G energies.

    Attributes:
        energy_ev: total energy of the cell, eV.
        forces_ev_per_a: (N, 3), eV/Å.
        xanes: (N, G) K-edge intensity of each atom, in the oracle's units (1/eV up to a constant), >= 0.
        energies_ev: (G,) eV relative to the oracle's zero (the Fermi level).
        seconds: wall-clock time of the calculation.
        details: further results of this oracle that JSON can hold.
    """

    energy_ev: float
    forces_ev_per_a: Array
    xanes: Array
    energies_ev: Array
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def attach(self, atoms: Atoms) -> Atoms:
        """Copy of ``atoms`` in the labelled convention: REF_energy, REF_forces, xanes, xanes_energies.

        ``info["oracle_details"]`` is the details as a JSON text, where there are any.

        Raises ValueError when the label belongs to another number of atoms.
        """
        if len(atoms) != len(self.forces_ev_per_a):
            raise ValueError(f"label of {len(self.forces_ev_per_a)} atoms on a structure of {len(atoms)}")
        labelled = atoms.copy()
        labelled.info["REF_energy"] = float(self.energy_ev)
        labelled.info["xanes_energies"] = np.array(self.energies_ev)
        labelled.info.pop(DETAILS, None)
        if self.details:
            labelled.info[DETAILS] = json.dumps(self.details)
        labelled.arrays["REF_forces"] = np.array(self.forces_ev_per_a)
        labelled.arrays["xanes"] = np.array(self.xanes)
        return labelled


class Oracle(Protocol):
    """An electronic-structure method that labels structures.

    An implementation is a cheap, picklable object made of frozen settings; it holds nothing between calls,
    so a label depends on the structure and on the settings alone. It prints nothing on stdout.
    """

    name: str

    @property
    def settings(self) -> BaseModel:
        """Every number that can change a label."""
        ...

    @property
    def grid(self) -> EnergyGrid:
        """The energies on which the spectra are given."""
        ...

    @property
    def settings_hash(self) -> str:
        """Identity of name, recipe and settings (hex): equal hashes give equal labels."""
        ...

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """Raise UserError unless all atomic numbers (N,) can be calculated."""
        ...

    def label(self, atoms: Atoms) -> Label:
        """Energy, forces and the XANES of all atoms. Raises OracleError, or UserError for unknown
        elements.

        What is finished of it is kept in files until it is complete, and longer only inside of
        `nearedge_services.oracles.per_absorber.until_stored`; of one that failed, for 30 days.
        """
        ...

    def calculator(self) -> Calculator:
        """ASE calculator of energy and forces for relaxations and dynamics.

        It raises OracleError where a calculation fails. It may satisfy `KeepsLabel`.
        """
        ...


@runtime_checkable
class KeepsLabel(Protocol):
    """A calculator that has the label of the geometry it calculated last, at no further self-consistent
    run.
    """

    def last_label(self) -> Label:
        """That label. Raises RuntimeError before the first calculation."""
        ...


@runtime_checkable
class CountsRuns(Protocol):
    """An oracle that treats one absorber at a time."""

    def runs(self, numbers: npt.ArrayLike) -> int:
        """Calculations that follow each other in a label of these atoms (N,). Raises UserError for an absorber that
        is not there.
        """
        ...


def runs_of(oracle: Oracle, numbers: npt.ArrayLike) -> int:
    """The same of any oracle: one, where nothing is said."""
    return oracle.runs(numbers) if isinstance(oracle, CountsRuns) else 1


def is_limited(oracle: Oracle) -> bool:
    """Whether what it runs can be ended from outside, by `external.allowance`: not where a label is one run of the
    process itself.
    """
    return hasattr(oracle.settings, "run") and bool(getattr(oracle.settings, "limited", True))


def check_geometry(atoms: Atoms) -> None:
    """Raise BadGeometry for an empty or non-periodic structure, a flat cell, NaN or overlapping atoms.

    Distances to all periodic images count.
    """
    if len(atoms) == 0:
        raise BadGeometry("no atoms")
    if not np.all(atoms.pbc):
        raise BadGeometry(f"the cell is not periodic in all three directions: pbc = {atoms.pbc.tolist()}")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise BadGeometry("positions or cell are not finite")
    if abs(atoms.cell.volume) < 1e-3 * len(atoms):
        raise BadGeometry(f"the cell has no volume: {atoms.cell.volume:.3g} Å³")
    contacts = find_pairs(atoms, MIN_CONTACT_A).distances_a
    if len(contacts):
        raise BadGeometry(
            f"atoms overlap: shortest contact {contacts.min():.3f} Å is below {MIN_CONTACT_A} Å"
        )


def check_label(label: Label) -> Label:
    """The same label; raises NotFinite when a value is not finite, BadGeometry when a force is absurd."""
    if not np.isfinite(label.energy_ev):
        raise NotFinite("the energy is not finite")
    for name, values in (("forces", label.forces_ev_per_a), ("spectra", label.xanes)):
        if not np.isfinite(values).all():
            raise NotFinite(f"the {name} are not finite")
    largest = float(np.linalg.norm(label.forces_ev_per_a, axis=1).max())
    if largest > MAX_FORCE_EV_PER_A:
        raise BadGeometry(f"a force of {largest:.0f} eV/Å is above {MAX_FORCE_EV_PER_A:.0f} eV/Å")
    return label


def check_shapes(label: Label, n_atoms: int, grid: EnergyGrid) -> Label:
    """The same label; raises OracleCrash when its arrays are not of so many atoms on this grid of energies."""
    wanted = {
        "forces": (np.shape(label.forces_ev_per_a), (n_atoms, 3)),
        "spectra": (np.shape(label.xanes), (n_atoms, grid.size)),
        "energies": (np.shape(label.energies_ev), (grid.size,)),
    }
    for name, (got, right) in wanted.items():
        if got != right:
            raise OracleCrash(f"the {name} came back with the shape {got} instead of {right}")
    return label

"""Structures: content shared by all campaigns, and their place in one campaign."""

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy.orm import Session

from nearedge_db.hashing import structure_hash
from nearedge_db.insert import get_or_insert
from nearedge_db.schema import CampaignStructure, LabelRow, Structure
from nearedge_db.states import StructureOrigin

if TYPE_CHECKING:
    from ase import Atoms

_AMU_PER_A3_IN_G_PER_CM3 = 1.66053906660


def put_structure(
    session: Session,
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    fractions: dict[int, float] | None = None,
) -> Structure:
    """The row of a structure, inserted if it is new.

    Args:
        numbers: (N,) atomic numbers.
        positions: (N, 3) Å.
        cell: (3, 3) Å, rows are lattice vectors.
        fractions: coordination number -> fraction of atoms; 2, 3 and 4 are kept (absent ones as 0).

    Raises:
        ValueError: shapes do not fit, a value is not finite, or the cell has no volume.
    """
    key = {"hash": structure_hash(numbers, positions, cell)}
    coordination: dict[str, float] = {}
    if fractions is not None:
        coordination = {f"cn{n}_fraction": float(fractions.get(n, 0.0)) for n in (2, 3, 4)}
    values = {
        "formula": _formula(numbers),
        "n_atoms": len(numbers),
        "numbers": np.asarray(numbers),
        "positions": np.asarray(positions),
        "cell": np.asarray(cell),
        "density_g_cm3": _density(numbers, cell),
        **coordination,
    }
    return get_or_insert(session, Structure, key, values)[0]


def put_atoms(session: Session, atoms: "Atoms", fractions: dict[int, float] | None = None) -> Structure:
    """:func:`put_structure` of an ASE structure."""
    return put_structure(session, atoms.numbers, atoms.positions, np.asarray(atoms.cell), fractions)


def link_structure(
    session: Session,
    campaign_id: int,
    structure_id: int,
    origin: StructureOrigin,
    group: str,
    *,
    seed: int | None = None,
    held_out: bool = False,
    candidate_id: int | None = None,
) -> CampaignStructure:
    """Make a structure part of a campaign; one that already is keeps its first origin, group and candidate."""
    key = {"campaign_id": campaign_id, "structure_id": structure_id}
    values = {
        "origin": StructureOrigin(origin),
        "group_name": group,
        "seed": seed,
        "held_out": held_out,
        "candidate_id": candidate_id,
    }
    return get_or_insert(session, CampaignStructure, key, values)[0]


def get_structure(session: Session, structure_id: int) -> Structure:
    """The structure; raises ``LookupError`` when there is none of this number."""
    row = session.get(Structure, structure_id)
    if row is None:
        raise LookupError(f"no structure {structure_id}")
    return row


def to_atoms(structure: Structure, label: LabelRow | None = None) -> "Atoms":
    """ASE structure (periodic), with its label in the labelled convention if one is given.

    ``info`` has ``structure_id`` and ``structure_hash``; a label adds ``info["REF_energy"]`` (eV),
    ``info["xanes_energies"]`` ((G,) eV), ``arrays["REF_forces"]`` ((N, 3) eV/Å) and
    ``arrays["xanes"]`` ((N, G)).
    """
    from ase import Atoms

    atoms = Atoms(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=True,
        info={"structure_id": structure.id, "structure_hash": structure.hash},
    )
    if label is not None:
        atoms.info["REF_energy"] = label.energy_ev
        atoms.info["xanes_energies"] = label.energies_ev
        atoms.set_array("REF_forces", label.forces, dtype=float)
        atoms.set_array("xanes", label.xanes, dtype=float)
    return atoms


def _formula(numbers: np.ndarray) -> str:
    """Chemical formula in Hill order."""
    from ase import Atoms

    return str(Atoms(numbers=numbers).get_chemical_formula(mode="hill"))


def _density(numbers: np.ndarray, cell: np.ndarray) -> float:
    """Mass density in g/cm³."""
    from ase.data import atomic_masses

    volume_a3 = abs(float(np.linalg.det(np.asarray(cell, dtype=float))))
    if volume_a3 == 0.0:
        raise ValueError("the cell has no volume")
    return float(atomic_masses[np.asarray(numbers)].sum()) * _AMU_PER_A3_IN_G_PER_CM3 / volume_a3

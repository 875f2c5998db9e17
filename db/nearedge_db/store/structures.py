"""Structures: content shared by all campaigns, and their place in one campaign."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from nearedge_db.hashing import structure_hash
from nearedge_db.insert import get_or_insert, insert_missing, insert_returning
from nearedge_db.schema import CampaignStructure, LabelRow, Structure
from nearedge_db.states import StructureOrigin

if TYPE_CHECKING:
    from ase import Atoms

_STRUCTURES: Any = Structure.__table__
_IDS = select(_STRUCTURES.c.hash, _STRUCTURES.c.id).where(
    _STRUCTURES.c.hash.in_(bindparam("hashes", expanding=True))
)
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
    values = _columns(numbers, positions, cell, fractions)
    key = {"hash": values.pop("hash")}
    return get_or_insert(session, Structure, key, values)[0]


def _columns(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, fractions: dict[int, float] | None
) -> dict[str, Any]:
    """The columns of a structure; see :func:`put_structure`."""
    shares = {f"cn{n}_fraction": None if fractions is None else fractions.get(n, 0.0) for n in (2, 3, 4)}
    return {
        "hash": structure_hash(numbers, positions, cell),
        "formula": _formula(np.asarray(numbers).tobytes(), np.asarray(numbers).dtype.str),
        "n_atoms": len(numbers),
        "numbers": np.asarray(numbers),
        "positions": np.asarray(positions),
        "cell": np.asarray(cell),
        "density_g_cm3": _density(numbers, cell),
        **shares,
    }


def put_all_atoms(
    session: Session, structures: "Sequence[tuple[Atoms, dict[int, float] | None]]"
) -> list[tuple[int, str]]:
    """:func:`put_structure` of many, each with its fractions, in one statement or two: their ids and hashes."""
    rows = [
        _columns(atoms.numbers, atoms.positions, np.asarray(atoms.cell), fractions)
        for atoms, fractions in structures
    ]
    by_hash = {row["hash"]: row for row in rows}
    found = insert_returning(session, Structure, ("hash",), ("hash", "id"), list(by_hash.values()))
    ids: dict[str, int] = dict(found)
    known = [content_hash for content_hash in by_hash if content_hash not in ids]
    if known:
        ids.update(session.execute(_IDS, {"hashes": known}).tuples().all())
    return [(ids[row["hash"]], row["hash"]) for row in rows]


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


@dataclass(frozen=True)
class Link:
    """A generated structure's place in its campaign; see :func:`link_structure`."""

    structure_id: int
    origin: StructureOrigin
    group_name: str
    seed: int | None
    held_out: bool
    candidate_id: int | None


def link_structures(session: Session, campaign_id: int, links: Sequence[Link]) -> None:
    """:func:`link_structure` of many, in one statement."""
    rows = [{"campaign_id": campaign_id, **vars(link)} for link in links]
    insert_missing(session, CampaignStructure, ["campaign_id", "structure_id"], rows)


def get_structure(session: Session, structure_id: int) -> Structure:
    """The structure; raises ``LookupError`` when there is none of this number."""
    row = session.get(Structure, structure_id)
    if row is None:
        raise LookupError(f"no structure {structure_id}")
    return row


def to_atoms(structure: Structure, label: LabelRow | None = None) -> "Atoms":
    """ASE structure (periodic), with its label in the labelled convention if one is given.

    ``info`` has ``structure_id`` and ``structure_hash``; a label adds ``info["REF_energy"]`` (eV),
    ``info["oracle_details"]`` (JSON text, where the oracle gave any),
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
        if label.details_json:
            atoms.info["oracle_details"] = json.dumps(label.details_json)
        atoms.set_array("REF_forces", label.forces, dtype=float)
        atoms.set_array("xanes", label.xanes, dtype=float)
    return atoms


@lru_cache(maxsize=256)
def _formula(numbers: bytes, dtype: str) -> str:
    """Chemical formula in Hill order, of atomic numbers as bytes: all structures of a campaign share a few."""
    from ase import Atoms

    return str(Atoms(numbers=np.frombuffer(numbers, dtype)).get_chemical_formula(mode="hill"))


def _density(numbers: np.ndarray, cell: np.ndarray) -> float:
    """Mass density in g/cm³."""
    from ase.data import atomic_masses

    volume_a3 = abs(float(np.linalg.det(np.asarray(cell, dtype=float))))
    if volume_a3 == 0.0:
        raise ValueError("the cell has no volume")
    return float(atomic_masses[np.asarray(numbers)].sum()) * _AMU_PER_A3_IN_G_PER_CM3 / volume_a3

"""The best structures of a campaign as labelled extended XYZ."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from nearedge.labelled import PROPERTIES, Labelled, by_distance, of_role, read_labelled
from nearedge.summary import require_campaign
from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.schema import LabelRow
from nearedge_db.states import LabelRole
from nearedge_db.store import get_structure, to_atoms

if TYPE_CHECKING:
    from ase import Atoms

INFO_KEYS = (
    "spectral_distance",
    "predicted_distance",
    *PROPERTIES,
    "oracle",
    "settings_hash",
    "prior_version",
    "surrogate_version",
    "potential_version",
    "seed",
)
"""Columns of ``discovered_structures`` that go into ``info``, where they are known."""


def best_structures(database: Database, campaign: str, count: int) -> "list[Atoms]":
    """The ``count`` guided structures nearest to the target, the best first, in the labelled convention.

    ``info`` also has ``structure_id``, ``campaign`` and those of `INFO_KEYS` that are known.
    Raises UserError when the campaign does not exist or has no guided label yet.
    """
    with database.session() as session:
        require_campaign(session, campaign)
        best = by_distance(of_role(read_labelled(session, campaign), LabelRole.GUIDED))[:count]
        if not best:
            raise UserError(
                "the campaign has no labelled guided structure yet",
                got=campaign,
                fix="let it run until it has one",
            )
        return [labelled_atoms(session, one, campaign) for one in best]


def labelled_atoms(session: Session, one: Labelled, campaign: str) -> "Atoms":
    """One structure with its label and what is known of it."""
    atoms = to_atoms(get_structure(session, one.structure_id), session.get_one(LabelRow, one.label_id))
    known = {key: value for key, value in asdict(one).items() if key in INFO_KEYS and value is not None}
    atoms.info.update(known, campaign=campaign)
    return atoms


def export_best(database: Database, campaign: str, count: int, path: Path) -> int:
    """Write the best structures to ``path``; returns how many there were.

    Raises UserError as `best_structures` does, and when the folder does not exist.
    """
    from nearedge_services.structures.extxyz import write_structures

    if not path.parent.is_dir():
        raise UserError("the folder of the output does not exist", got=path.parent, fix="create it first")
    structures = best_structures(database, campaign, count)
    write_structures(path, structures)
    return len(structures)

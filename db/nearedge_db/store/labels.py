"""Labels: what an oracle said about a structure, and the use that campaigns make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from nearedge_db.hashing import settings_hash as hash_of_settings
from nearedge_db.insert import get_or_insert, new_rows
from nearedge_db.prepared import Prepared
from nearedge_db.schema import CampaignStructure, LabelRow, LabelUse, OracleSettings, Structure
from nearedge_db.states import LabelRole, StructureOrigin
from nearedge_db.types import decode_array, utc_now

from .campaigns import lock_sequences
from .structures import to_atoms

if TYPE_CHECKING:
    from ase import Atoms

_USES: Any = LabelUse.__table__
_LABELS: Any = LabelRow.__table__
_SPECTRA = Prepared(
    lambda dialect: select(_LABELS.c.id, _LABELS.c.xanes).where(
        _LABELS.c.structure_id == bindparam("structure"), _LABELS.c.settings_hash == bindparam("settings")
    )
)


@dataclass(frozen=True)
class UsedLabel:
    """The use of a label without its arrays; the distance (1/eV) is ``None`` before the target is aligned."""

    structure_id: int
    role: LabelRole
    spectral_distance: float | None


def put_settings(session: Session, oracle: str, settings: dict[str, Any]) -> str:
    """Register an oracle with its settings; returns their hash."""
    key = {"settings_hash": hash_of_settings(oracle, settings)}
    values = {"oracle": oracle, "settings_json": settings}
    return get_or_insert(session, OracleSettings, key, values)[0].settings_hash


def put_label(
    session: Session,
    structure_id: int,
    settings_hash: str,
    *,
    energy_ev: float,
    forces: np.ndarray,
    xanes: np.ndarray,
    energies_ev: np.ndarray,
    seconds: float,
    details: dict[str, Any] | None = None,
    task_id: int | None = None,
) -> LabelRow:
    """The label of a structure with these settings, inserted if there is none (the first one stays).

    Args:
        energy_ev: total energy of the cell, eV.
        forces: (N, 3) eV/Å.
        xanes: (N, G) intensity per atom, kept in single precision.
        energies_ev: (G,) eV relative to the Fermi level.
        seconds: what the calculation cost.

    Raises:
        ValueError: shapes do not fit the structure, or a number is not finite.
    """
    atoms = session.execute(select(Structure.n_atoms).where(Structure.id == structure_id)).scalar_one()
    _check_label(atoms, energy_ev, forces, xanes, energies_ev)
    key = {"structure_id": structure_id, "settings_hash": settings_hash}
    values = {
        "task_id": task_id,
        "energy_ev": energy_ev,
        "forces": forces,
        "xanes": xanes,
        "energies_ev": energies_ev,
        "seconds": seconds,
        "details_json": details or {},
    }
    return get_or_insert(session, LabelRow, key, values)[0]


def _check_label(n_atoms: int, energy_ev: float, forces: Any, xanes: Any, energies_ev: Any) -> None:
    grid_size = np.size(energies_ev)
    shapes = (np.shape(forces), np.shape(xanes), np.shape(energies_ev))
    if shapes != ((n_atoms, 3), (n_atoms, grid_size), (grid_size,)):
        raise ValueError(f"forces, xanes, energies of shapes {shapes} are no label of {n_atoms} atoms")
    if not all(np.isfinite(part).all() for part in (energy_ev, forces, xanes, energies_ev)):
        raise ValueError("a label must be finite")


def get_label(session: Session, structure_id: int, settings_hash: str) -> LabelRow | None:
    """The label of a structure with these settings, from whichever campaign, if there is one."""
    return session.scalar(
        select(LabelRow).where(LabelRow.structure_id == structure_id, LabelRow.settings_hash == settings_hash)
    )


def use_label(
    session: Session,
    campaign_id: int,
    label_id: int,
    role: LabelRole | str,
    distance: float | None,
    candidate_id: int | None = None,
) -> LabelUse:
    """Put a label to use in a campaign, next in order; one that it uses already stays as it is.

    ``distance`` is the spectral distance to the campaign's target, 1/eV; ``None`` before the target is
    aligned (:func:`set_distances` adds it). ``candidate_id`` is the candidate that was labelled, if it was one.
    """
    use_label_once(session, campaign_id, label_id, role, distance, candidate_id)
    query = select(LabelUse).where(LabelUse.campaign_id == campaign_id, LabelUse.label_id == label_id)
    return session.scalars(query).one()


def use_label_once(
    session: Session,
    campaign_id: int,
    label_id: int,
    role: LabelRole | str,
    distance: float | None,
    candidate_id: int | None = None,
) -> bool:
    """:func:`use_label`; whether the label was put to use just now."""
    lock_sequences(session, campaign_id)
    values = {
        "campaign": campaign_id,
        "label": label_id,
        "role_": LabelRole(role),
        "distance": distance,
        "candidate": candidate_id,
        "now": utc_now(),
    }
    return _ADD_USE.one(session, values) is not None


def _add_use(dialect: str) -> Any:
    """One more use, numbered after the last of the campaign; returns its id."""
    campaign: Any = bindparam("campaign", type_=_USES.c.campaign_id.type)
    number = select(func.coalesce(func.max(_USES.c.sequence) + 1, 0)).where(_USES.c.campaign_id == campaign)
    return (
        new_rows(dialect, LabelUse, ("campaign_id", "label_id"))
        .values(
            campaign_id=campaign,
            label_id=bindparam("label"),
            role=bindparam("role_"),
            spectral_distance=bindparam("distance"),
            sequence=number.scalar_subquery(),
            candidate_id=bindparam("candidate"),
            created_at=bindparam("now"),
        )
        .returning(_USES.c.id)
    )


_ADD_USE = Prepared(_add_use)


def get_spectra(session: Session, structure_id: int, settings_hash: str) -> tuple[int, np.ndarray] | None:
    """Number of the label of a structure with these settings and its (N, G) spectra, without the rest of it."""
    found = _SPECTRA.one(session, {"structure": structure_id, "settings": settings_hash})
    return None if found is None else (found[0], decode_array(bytes(found[1])))


def set_distances(session: Session, campaign_id: int, distances: Mapping[int, float]) -> None:
    """Set the spectral distances (1/eV) of used labels, label id -> distance: the target was aligned anew."""
    for label_id, distance in distances.items():
        session.execute(
            update(LabelUse)
            .where(LabelUse.campaign_id == campaign_id, LabelUse.label_id == label_id)
            .values(spectral_distance=distance)
        )


def used_labels(
    session: Session, campaign_id: int, roles: Sequence[LabelRole] | None = None
) -> list[tuple[LabelUse, LabelRow]]:
    """Labels that a campaign uses, in order, with all their arrays: see :func:`label_uses` for the numbers."""
    query = (
        select(LabelUse, LabelRow)
        .join(LabelRow, LabelRow.id == LabelUse.label_id)
        .where(LabelUse.campaign_id == campaign_id)
        .order_by(LabelUse.sequence)
    )
    if roles is not None:
        query = query.where(LabelUse.role.in_(roles))
    return [(use, label) for use, label in session.execute(query)]


def label_uses(session: Session, campaign_id: int) -> list[UsedLabel]:
    """Role and distance of every label by the campaign's own oracle, in order; reads no spectra and no forces.

    Checks by another oracle are left out: their distances do not compare with these.
    """
    query = (
        select(LabelRow.structure_id, LabelUse.role, LabelUse.spectral_distance)
        .join(LabelRow, LabelRow.id == LabelUse.label_id)
        .where(LabelUse.campaign_id == campaign_id, LabelUse.role != LabelRole.CONFIRM)
        .order_by(LabelUse.sequence)
    )
    return [UsedLabel(*row) for row in session.execute(query)]


def labelled_structures(
    session: Session,
    campaign_id: int,
    settings_hash: str,
    *,
    held_out: bool | None = None,
    origins: Sequence[StructureOrigin] | None = None,
) -> "list[Atoms]":
    """Structures of a campaign that have a label by one oracle and settings, in the order they joined it.

    In the labelled convention; ``info`` also has ``structure_id``, ``structure_hash``, ``origin``, ``group``.

    Args:
        held_out: only those held out from training (``True``) or only the others (``False``).
        origins: only those from there.
    """
    query = (
        select(Structure, LabelRow, CampaignStructure)
        .join(CampaignStructure, CampaignStructure.structure_id == Structure.id)
        .join(LabelRow, LabelRow.structure_id == Structure.id)
        .where(CampaignStructure.campaign_id == campaign_id, LabelRow.settings_hash == settings_hash)
        .order_by(CampaignStructure.id)
    )
    if held_out is not None:
        query = query.where(CampaignStructure.held_out == held_out)
    if origins is not None:
        query = query.where(CampaignStructure.origin.in_(list(origins)))
    frames = []
    for structure, label, link in session.execute(query):
        atoms = to_atoms(structure, label)
        atoms.info.update(origin=link.origin.value, group=link.group_name)
        frames.append(atoms)
    return frames


def labelled_hashes(
    session: Session, campaign_id: int, settings_hash: str, since: int | None = None
) -> list[tuple[str, bool, StructureOrigin]]:
    """Content hash, held-out flag and origin of every structure of a campaign with a label by these settings.

    ``since``: only of labels that the campaign has put to use from this number on; see :func:`next_use`.
    """
    query = (
        select(Structure.hash, CampaignStructure.held_out, CampaignStructure.origin)
        .join(CampaignStructure, CampaignStructure.structure_id == Structure.id)
        .join(LabelRow, LabelRow.structure_id == Structure.id)
        .where(CampaignStructure.campaign_id == campaign_id, LabelRow.settings_hash == settings_hash)
        .order_by(Structure.hash)
    )
    if since is not None:
        query = query.join(LabelUse, LabelUse.label_id == LabelRow.id).where(
            LabelUse.campaign_id == campaign_id, LabelUse.sequence >= since
        )
    return [(content_hash, held_out, origin) for content_hash, held_out, origin in session.execute(query)]


def next_use(session: Session, campaign_id: int) -> int:
    """The number that the next label put to use in a campaign gets."""
    query = select(func.max(LabelUse.sequence)).where(LabelUse.campaign_id == campaign_id)
    highest = session.scalar(query)
    return 0 if highest is None else highest + 1

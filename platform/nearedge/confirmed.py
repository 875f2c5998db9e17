"""What the second oracle says of the structures that the first one found.

Distances are by the second oracle to the target on its own energies, in 1/eV; those of the first stand beside them and
are never compared with them. A discovered structure counts as *confirmed* when the second oracle too has it nearer to
the target than every starting structure that it labelled, the first oracle's best among them.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from nearedge.fidelity import ConfirmConfig
from nearedge_db.errors import UserError
from nearedge_db.schema import Campaign, Event, LabelRow, LabelUse, Structure
from nearedge_db.states import LabelRole
from nearedge_services.spectra.correction import Judged, learn
from nearedge_services.spectra.target import Target

Array = npt.NDArray[np.float64]

ORACLE_EVENT = "confirming oracle"
"""Event that keeps which oracle and settings confirm from then on."""

TARGET_EVENT, UNPLACED_EVENT = "confirming target", "confirming target not placed"
"""Events that keep the target on the second oracle's energies, or why it is not there."""


@dataclass(frozen=True)
class Checked:
    """One structure that both oracles have labelled."""

    structure_id: int
    role: str
    """What the first oracle's label is used for: seed, baseline or guided."""
    screening_distance: float | None
    """By the first oracle, 1/eV."""
    distance: float | None
    """By the second, 1/eV; None where the target is not placed."""
    energy_per_atom_ev: float
    """By the second; compare only among these."""
    corrected_distance: float | None
    """What the first oracle's spectrum, corrected without this structure, lets expect of ``distance``, 1/eV."""
    confirmed: bool
    """Of a guided structure: nearer to the target than every starting structure here."""


@dataclass(frozen=True)
class CorrectionError:
    """What the learnt correction is wrong by, leaving one pair out, 1/eV: see `Judged`."""

    pairs: int
    shift_ev: float
    error: float
    shifted_error: float
    constant_error: float


@dataclass(frozen=True)
class Confirmation:
    """All of it, the guided structures first, by the first oracle's distance."""

    oracle: str
    wanted: int
    """Guided structures that are to be confirmed."""
    structures: tuple[Checked, ...]
    shift_ev: float | None
    """Energy of the second oracle's zero on the target's own axis."""
    shift_range_ev: tuple[float, float] | None
    """Shifts that are about as good: within them, which structures are confirmed may differ."""
    residual: float | None
    """Mean distance of the target to the nearest starting structures at that shift, 1/eV."""
    unplaced: str | None
    """Why there are no distances."""
    correction: CorrectionError | None
    refusal: str | None
    """Why there is no correction."""

    @property
    def discovered(self) -> list[Checked]:
        """The guided structures."""
        return [one for one in self.structures if one.role == LabelRole.GUIDED.value]

    @property
    def confirmed(self) -> int:
        """How many discovered structures are confirmed."""
        return sum(one.confirmed for one in self.structures)

    @property
    def best_distance(self) -> float | None:
        """Of the guided structures, by the second oracle, 1/eV."""
        return _least(self.discovered)

    @property
    def best_start_distance(self) -> float | None:
        """Of the starting structures, by the second oracle, 1/eV."""
        return _least([one for one in self.structures if one.role == LabelRole.SEED.value])

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and mappings."""
        return {
            **asdict(self),
            "structures": [asdict(one) for one in self.structures],
            "checked": len(self.discovered),
            "confirmed": self.confirmed,
            "best_distance": self.best_distance,
            "best_start_distance": self.best_start_distance,
        }


def read_target(session: Session, campaign_id: int, settings_hash: str) -> Target | None:
    """The target on the energies of the oracle with these settings, if it has been placed there."""
    data = _last_event(session, campaign_id, TARGET_EVENT, settings_hash)
    if data is None:
        return None
    return Target.from_arrays({key: np.asarray(data[key]) for key in ("intensity", "mask", "metadata")})


def confirm_settings(campaign: Campaign) -> ConfirmConfig | None:
    """The campaign's, as they are stored; None where it has no second oracle."""
    stored = campaign.config_json.get("confirm")
    try:
        return None if stored is None else ConfirmConfig.model_validate(stored)
    except ValidationError as error:
        raise UserError(
            f"campaign {campaign.name!r} was made with settings that this version does not know",
            got=error.errors()[0]["msg"],
            fix="use the version that made it",
        ) from None


def read_confirmation(session: Session, campaign: Campaign) -> Confirmation | None:
    """What the second oracle has found so far; None where the campaign has none."""
    settings = confirm_settings(campaign)
    if settings is None:
        return None
    settings_hash = str((_last_event(session, campaign.id, ORACLE_EVENT) or {}).get("settings_hash"))
    rows = _rows(session, campaign.id, settings_hash)
    target = read_target(session, campaign.id, settings_hash)
    unplaced = _last_event(session, campaign.id, UNPLACED_EVENT, settings_hash)
    judged, refusal = _learn(rows, campaign.absorber, target)
    alignment = None if target is None else target.alignment
    return Confirmation(
        oracle=settings.name,
        wanted=settings.best,
        structures=tuple(_checked(rows, target, judged)),
        shift_ev=None if alignment is None else alignment.shift_ev,
        shift_range_ev=None if alignment is None else alignment.shift_range_ev,
        residual=None if alignment is None else alignment.residual,
        unplaced=None if target is not None or unplaced is None else str(unplaced["reason"]),
        correction=None
        if judged is None
        else CorrectionError(
            judged.pairs,
            judged.correction.shift_ev,
            judged.error,
            judged.shifted_error,
            judged.constant_error,
        ),
        refusal=refusal,
    )


@dataclass(frozen=True)
class _Row:
    """A structure with the labels and uses of both oracles."""

    structure: Structure
    cheap: LabelRow
    cheap_use: LabelUse
    dear: LabelRow
    dear_use: LabelUse


def _rows(session: Session, campaign_id: int, settings_hash: str) -> list[_Row]:
    cheap, dear = aliased(LabelRow), aliased(LabelRow)
    cheap_use, dear_use = aliased(LabelUse), aliased(LabelUse)
    query = (
        select(Structure, cheap, cheap_use, dear, dear_use)
        .join(dear, dear.structure_id == Structure.id)
        .join(dear_use, dear_use.label_id == dear.id)
        .join(cheap, cheap.structure_id == Structure.id)
        .join(cheap_use, cheap_use.label_id == cheap.id)
        .where(dear_use.campaign_id == campaign_id, dear_use.role == LabelRole.CONFIRM)
        .where(dear.settings_hash == settings_hash)
        .where(cheap_use.campaign_id == campaign_id, cheap_use.role != LabelRole.CONFIRM)
        .order_by(cheap_use.sequence)
    )
    return [_Row(*row) for row in session.execute(query)]


def _last_event(
    session: Session, campaign_id: int, kind: str, settings_hash: str | None = None
) -> dict[str, Any] | None:
    """Data of the last event of a kind, of any second oracle or of the one with these settings."""
    query = (
        select(Event.data_json)
        .where(Event.campaign_id == campaign_id, Event.kind == kind)
        .order_by(Event.id.desc())
    )
    found = (data for data in session.scalars(query) if settings_hash in (None, data.get("settings_hash")))
    return next(found, None)


def _mean(row: _Row, label: LabelRow, absorber: str) -> Array:
    from ase.data import atomic_numbers

    rows = label.xanes[row.structure.numbers == atomic_numbers[absorber]]
    return np.asarray(rows, dtype=float).mean(axis=0)


def _learn(rows: list[_Row], absorber: str, target: Target | None) -> tuple[Judged | None, str | None]:
    """The correction, or why there is none."""
    if not rows:
        return None, "no structure is labelled by both oracles yet"
    if target is None:
        return None, "the target is not placed on the energies of the second oracle"
    cheap, dear = ([_mean(row, getattr(row, kind), absorber) for row in rows] for kind in ("cheap", "dear"))
    energies = rows[0].cheap.energies_ev, rows[0].dear.energies_ev
    try:
        return learn(energies[0], np.array(cheap), energies[1], np.array(dear), target.window_ev), None
    except UserError as error:
        return None, f"{error.what}: {error.got}"


def _checked(rows: list[_Row], target: Target | None, judged: Judged | None) -> list[Checked]:
    expected: list[float | None] = [None] * len(rows)
    if judged is not None and target is not None:
        wanted = target.intensity[target.mask]
        expected = [float(np.sqrt(np.mean((spectrum - wanted) ** 2))) for spectrum in judged.left_out]
    found = [
        Checked(
            structure_id=row.structure.id,
            role=row.cheap_use.role.value,
            screening_distance=row.cheap_use.spectral_distance,
            distance=row.dear_use.spectral_distance,
            energy_per_atom_ev=row.dear.energy_ev / row.structure.n_atoms,
            corrected_distance=distance,
            confirmed=False,
        )
        for row, distance in zip(rows, expected, strict=True)
    ]
    to_beat = _least([one for one in found if one.role == LabelRole.SEED.value])
    judged_ones = [replace(one, confirmed=_beats(one, to_beat)) for one in found]
    return sorted(
        judged_ones,
        key=lambda one: (one.role != LabelRole.GUIDED.value, one.screening_distance or 0.0, one.structure_id),
    )


def _beats(one: Checked, to_beat: float | None) -> bool:
    guided = one.role == LabelRole.GUIDED.value
    return guided and to_beat is not None and one.distance is not None and one.distance < to_beat


def _least(found: list[Checked]) -> float | None:
    return min((one.distance for one in found if one.distance is not None), default=None)

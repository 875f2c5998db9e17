"""Generations and their candidates: what the conductor streams."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.orm import Session

from nearedge_db.insert import insert_returning
from nearedge_db.prepared import Prepared
from nearedge_db.schema import Candidate, Generation, Prediction, Structure
from nearedge_db.states import CandidateState, GenerationRole, GenerationState
from nearedge_db.types import utc_now

from .campaigns import lock_sequences

_AT_A_TIME = 200
_CANDIDATES: Any = Candidate.__table__
_GENERATIONS: Any = Generation.__table__
_PREDICTIONS: Any = Prediction.__table__
_GIVEN = (
    "campaign_id",
    "role",
    "settings_json",
    "state",
    "seed",
    "trial_number",
    "prior_model_id",
    "surrogate_model_id",
    "potential_model_id",
    "created_at",
)
_NEXT_SEQUENCE: Any = (
    select(func.coalesce(func.max(_GENERATIONS.c.sequence) + 1, 0))
    .where(_GENERATIONS.c.campaign_id == bindparam("campaign"), _GENERATIONS.c.role == bindparam("of_role"))
    .scalar_subquery()
)
_ADD_GENERATION = Prepared(
    lambda dialect: (
        insert(_GENERATIONS)
        .values({name: bindparam(f"new_{name}", type_=_GENERATIONS.c[name].type) for name in _GIVEN})
        .values(sequence=_NEXT_SEQUENCE)
        .returning(_GENERATIONS.c.id, _GENERATIONS.c.sequence)
    )
)
_ADD_PREDICTIONS = Prepared(
    lambda dialect: insert(_PREDICTIONS), [column.name for column in _PREDICTIONS.c if column.name != "id"]
)
_PLACES = (_CANDIDATES.c.index_in_generation, _CANDIDATES.c.id)
_OF_GENERATION = select(*_PLACES).where(_CANDIDATES.c.generation_id == bindparam("generation"))


@dataclass(frozen=True)
class Score:
    """What the models say of a candidate: distances in 1/eV, energies in eV per atom."""

    predicted_distance: float | None = None
    predicted_distance_std: float | None = None
    predicted_energy_per_atom_ev: float | None = None
    energy_std_per_atom_ev: float | None = None
    surrogate_model_id: int | None = None
    potential_model_id: int | None = None


def create_generation(
    session: Session,
    campaign_id: int,
    role: GenerationRole | str,
    settings: dict[str, Any],
    *,
    seed: int,
    trial_number: int | None = None,
    prior_model_id: int | None = None,
    surrogate_model_id: int | None = None,
    potential_model_id: int | None = None,
) -> Generation:
    """A new, open generation, next in the sequence of its role; what is returned is not part of the session."""
    lock_sequences(session, campaign_id)
    values = {
        "campaign_id": campaign_id,
        "role": GenerationRole(role),
        "settings_json": settings,
        "state": GenerationState.OPEN,
        "seed": seed,
        "trial_number": trial_number,
        "prior_model_id": prior_model_id,
        "surrogate_model_id": surrogate_model_id,
        "potential_model_id": potential_model_id,
        "created_at": utc_now(),
    }
    given = {f"new_{name}": value for name, value in values.items()}
    number, sequence = _ADD_GENERATION.one(
        session, {**given, "campaign": campaign_id, "of_role": values["role"]}
    )
    return Generation(id=number, sequence=sequence, **values)


def set_generation_state(session: Session, generation_id: int, state: GenerationState) -> datetime | None:
    """Move a generation on; closing it keeps the time, which is returned."""
    closed_at = utc_now() if state == GenerationState.CLOSED else None
    values = {"row": generation_id, "state": state, "closed_at": closed_at}
    _set_columns(_GENERATIONS, ("state", "closed_at")).rows(session, values)
    return closed_at


def set_generation_models(
    session: Session, generation_id: int, prior_model_id: int, surrogate_model_id: int | None
) -> None:
    """The models that a generation is made with now: one that is made again may get better ones."""
    generation = session.get_one(Generation, generation_id)
    generation.prior_model_id, generation.surrogate_model_id = prior_model_id, surrogate_model_id
    session.flush()


def close_generations(session: Session, campaign_id: int) -> None:
    """Close every generation of a campaign that is not closed: nothing more is made or scored of it."""
    session.execute(
        update(Generation)
        .where(Generation.campaign_id == campaign_id, Generation.state != GenerationState.CLOSED)
        .values(state=GenerationState.CLOSED, closed_at=utc_now())
    )


def list_generations(
    session: Session,
    campaign_id: int,
    role: GenerationRole | str | None = None,
) -> list[Generation]:
    """Generations of a campaign, oldest first."""
    query = select(Generation).where(Generation.campaign_id == campaign_id).order_by(Generation.id)
    if role is not None:
        query = query.where(Generation.role == GenerationRole(role))
    return list(session.scalars(query))


def add_candidate(
    session: Session,
    generation_id: int,
    index: int,
    structure_id: int,
    *,
    raw_structure_id: int | None = None,
    state: CandidateState = CandidateState.WAITING,
    reason: str | None = None,
    score: Score | None = None,
    relax_rms_displacement_a: float | None = None,
    shortest_contact_a: float | None = None,
    relax_surrogate_model_id: int | None = None,
    relax_potential_model_id: int | None = None,
) -> Candidate:
    """Enter a candidate with its first score, or return the one of this place in the generation.

    Idempotent, so that a generation whose worker died half-way can be made again.
    """
    generation = session.get_one(Generation, generation_id)
    existing = session.scalar(
        select(Candidate).where(
            Candidate.generation_id == generation_id, Candidate.index_in_generation == index
        )
    )
    if existing is not None:
        return existing
    candidate = Candidate(
        campaign_id=generation.campaign_id,
        generation_id=generation_id,
        index_in_generation=index,
        structure_id=structure_id,
        raw_structure_id=raw_structure_id,
        state=state,
        reason=reason,
        relax_rms_displacement_a=relax_rms_displacement_a,
        shortest_contact_a=shortest_contact_a,
        relax_surrogate_model_id=relax_surrogate_model_id,
        relax_potential_model_id=relax_potential_model_id,
        **vars(score or Score()),
    )
    session.add(candidate)
    session.flush()
    if score is not None:
        _ADD_PREDICTIONS.many(session, [_prediction(candidate.id, score)])
    return candidate


@dataclass(frozen=True)
class NewCandidate:
    """A structure with its first score, on its way into the database; the fields are those of the table."""

    index: int
    structure_id: int
    raw_structure_id: int
    state: CandidateState
    reason: str | None
    score: Score | None
    relax_rms_displacement_a: float | None
    shortest_contact_a: float | None
    relax_surrogate_model_id: int | None
    relax_potential_model_id: int | None


def add_candidates(session: Session, generation: Generation, new: Sequence[NewCandidate]) -> dict[int, int]:
    """:func:`add_candidate` of a whole generation, in two statements or three: index -> candidate."""
    rows = [
        {
            "campaign_id": generation.campaign_id,
            "generation_id": generation.id,
            "index_in_generation": one.index,
            "structure_id": one.structure_id,
            "raw_structure_id": one.raw_structure_id,
            "state": one.state,
            "reason": one.reason,
            "relax_rms_displacement_a": one.relax_rms_displacement_a,
            "shortest_contact_a": one.shortest_contact_a,
            "relax_surrogate_model_id": one.relax_surrogate_model_id,
            "relax_potential_model_id": one.relax_potential_model_id,
            **vars(one.score or Score()),
        }
        for one in new
    ]
    places = ("index_in_generation", "id")
    ids: dict[int, int] = dict(
        insert_returning(session, Candidate, ("generation_id", "index_in_generation"), places, rows)
    )
    scored = [
        _prediction(ids[one.index], one.score) for one in new if one.score is not None and one.index in ids
    ]
    _ADD_PREDICTIONS.many(session, scored)
    if len(ids) < len(rows):
        ids.update(session.execute(_OF_GENERATION, {"generation": generation.id}).tuples().all())
    return ids


def rescore(session: Session, scores: dict[int, Score]) -> None:
    """Give candidates (id -> score) new scores; every one is kept as a prediction too."""
    columns = (*(one.name for one in fields(Score)), "updated_at")
    now = utc_now()
    rows = [{"row": key, **vars(score), "updated_at": now} for key, score in scores.items()]
    _set_columns(_CANDIDATES, columns).many(session, rows)
    _ADD_PREDICTIONS.many(session, [_prediction(key, score) for key, score in scores.items()])


def _prediction(candidate_id: int, score: Score) -> dict[str, Any]:
    """The columns of a scoring."""
    return {
        "candidate_id": candidate_id,
        "surrogate_model_id": score.surrogate_model_id,
        "potential_model_id": score.potential_model_id,
        "distance": score.predicted_distance,
        "distance_std": score.predicted_distance_std,
        "energy_per_atom_ev": score.predicted_energy_per_atom_ev,
        "energy_std_per_atom_ev": score.energy_std_per_atom_ev,
        "created_at": utc_now(),
    }


def set_candidate_state(
    session: Session,
    candidate_ids: int | Iterable[int],
    state: CandidateState,
    reason: str | None = None,
    *,
    task_id: int | None = None,
    acquisition_value: float | None = None,
) -> None:
    """Move candidates on; what is not given stays as it is.

    ``acquisition_value`` is what the acquisition function said of a candidate when it was chosen, in the
    units of the policy (1/eV for all but chance).
    """
    ids = [candidate_ids] if isinstance(candidate_ids, int) else list(candidate_ids)
    given = {"reason": reason, "task_id": task_id, "acquisition_value": acquisition_value}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    values |= {"state": state, "updated_at": utc_now()}
    _set_columns(_CANDIDATES, tuple(values)).many(session, [{"row": number, **values} for number in ids])


@cache
def _set_columns(table: Any, names: tuple[str, ...]) -> Prepared:
    """Sets these columns of the row with the number ``row``; made once for each choice of columns."""
    new = {name: bindparam(name, type_=table.c[name].type) for name in names}
    return Prepared(lambda dialect: update(table).where(table.c.id == bindparam("row")).values(**new))


def candidates(
    session: Session, campaign_id: int, states: Sequence[CandidateState] | None = None
) -> list[Candidate]:
    """Candidates of a campaign, oldest first."""
    query = select(Candidate).where(Candidate.campaign_id == campaign_id).order_by(Candidate.id)
    if states is not None:
        query = query.where(Candidate.state.in_(states))
    return list(session.scalars(query))


@dataclass(frozen=True)
class TakenUp:
    """A candidate with its structure and the settings it was made with, as a campaign that goes on wants it."""

    candidate_id: int
    state: CandidateState
    task_id: int | None
    structure_id: int
    structure_hash: str
    density_g_cm3: float
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    role: GenerationRole
    settings: dict[str, Any]
    score: Score


_PLAIN = tuple(one.name for one in fields(TakenUp) if one.name != "score")


def take_up(session: Session, campaign_id: int, states: Sequence[CandidateState]) -> Iterator[TakenUp]:
    """Candidates of a campaign that are in these states, oldest first, a few at a time in memory."""
    query = (
        select(
            Candidate.id,
            Candidate.state,
            Candidate.task_id,
            Structure.id,
            Structure.hash,
            Structure.density_g_cm3,
            Structure.numbers,
            Structure.positions,
            Structure.cell,
            Generation.role,
            Generation.settings_json,
            *(getattr(Candidate, one.name) for one in fields(Score)),
        )
        .join(Structure, Structure.id == Candidate.structure_id)
        .join(Generation, Generation.id == Candidate.generation_id)
        .where(Candidate.campaign_id == campaign_id, Candidate.state.in_(states))
        .order_by(Candidate.id)
        .execution_options(yield_per=_AT_A_TIME)
    )
    for row in session.execute(query):
        facts: tuple[Any, ...] = tuple(row)
        plain = zip(_PLAIN, facts[: len(_PLAIN)], strict=True)
        yield TakenUp(**dict(plain), score=Score(*facts[len(_PLAIN) :]))


def candidate_counts(
    session: Session, campaign_id: int, role: GenerationRole | str | None = None
) -> dict[CandidateState, int]:
    """How many candidates of a campaign, or of one role in it, are in each state (all states, zeros too)."""
    query = (
        select(Candidate.state, func.count().label("candidates"))
        .where(Candidate.campaign_id == campaign_id)
        .group_by(Candidate.state)
    )
    if role is not None:
        query = query.join(Generation).where(Generation.role == GenerationRole(role))
    found = {row.state: row.candidates for row in session.execute(query)}
    return {state: found.get(state, 0) for state in CandidateState}

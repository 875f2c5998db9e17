"""Generations and their candidates: what the conductor streams."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nearedge_db.schema import Candidate, Generation, Prediction
from nearedge_db.states import CandidateState, GenerationRole, GenerationState
from nearedge_db.types import utc_now

from .campaigns import lock_campaign


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
    """A new, open generation, next in the sequence of its role."""
    lock_campaign(session, campaign_id)
    highest = session.scalar(
        select(func.max(Generation.sequence)).where(
            Generation.campaign_id == campaign_id, Generation.role == GenerationRole(role)
        )
    )
    generation = Generation(
        campaign_id=campaign_id,
        role=GenerationRole(role),
        sequence=0 if highest is None else highest + 1,
        settings_json=settings,
        seed=seed,
        trial_number=trial_number,
        prior_model_id=prior_model_id,
        surrogate_model_id=surrogate_model_id,
        potential_model_id=potential_model_id,
    )
    session.add(generation)
    session.flush()
    return generation


def set_generation_state(session: Session, generation_id: int, state: GenerationState) -> Generation:
    """Move a generation on; closing it keeps the time."""
    generation = session.get_one(Generation, generation_id)
    generation.state = state
    generation.closed_at = utc_now() if state == GenerationState.CLOSED else None
    session.flush()
    return generation


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
    )
    session.add(candidate)
    session.flush()
    if score is not None:
        rescore(session, {candidate.id: score})
    return candidate


def rescore(session: Session, scores: dict[int, Score]) -> None:
    """Give candidates (id -> score) new scores; every one is kept as a prediction too."""
    rows = session.scalars(select(Candidate).where(Candidate.id.in_(scores)))
    for candidate in rows.all():
        score = scores[candidate.id]
        for name, value in asdict(score).items():
            setattr(candidate, name, value)
        session.add(_prediction(candidate.id, score))
    session.flush()


def _prediction(candidate_id: int, score: Score) -> Prediction:
    return Prediction(
        candidate_id=candidate_id,
        surrogate_model_id=score.surrogate_model_id,
        potential_model_id=score.potential_model_id,
        distance=score.predicted_distance,
        distance_std=score.predicted_distance_std,
        energy_per_atom_ev=score.predicted_energy_per_atom_ev,
        energy_std_per_atom_ev=score.energy_std_per_atom_ev,
    )


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
    for candidate in session.scalars(select(Candidate).where(Candidate.id.in_(ids))).all():
        candidate.state = state
        candidate.reason = candidate.reason if reason is None else reason
        candidate.task_id = candidate.task_id if task_id is None else task_id
        if acquisition_value is not None:
            candidate.acquisition_value = acquisition_value
    session.flush()


def candidates(
    session: Session, campaign_id: int, states: Sequence[CandidateState] | None = None
) -> list[Candidate]:
    """Candidates of a campaign, oldest first."""
    query = select(Candidate).where(Candidate.campaign_id == campaign_id).order_by(Candidate.id)
    if states is not None:
        query = query.where(Candidate.state.in_(states))
    return list(session.scalars(query))


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

"""The scoring stage: relax, predict, gate; and predict again for what waits when a better model comes."""

import statistics
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from ase import Atoms
from sqlalchemy.orm import Session

from nearedge.chance import is_held_out
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.proposing import Batch, Proposing
from nearedge.conductor.training import Training
from nearedge.gate import Measures, Verdict, first_word, judge
from nearedge_agents.pool import Done, Work
from nearedge_agents.scorer import Broken, Judging, Prediction, Relaxing, Scored
from nearedge_db.schema import Candidate, Generation
from nearedge_db.states import CandidateState, GenerationRole, GenerationState, StructureOrigin
from nearedge_db.store import (
    Score,
    add_candidate,
    candidate_counts,
    candidates,
    get_structure,
    link_structure,
    list_generations,
    put_atoms,
    rescore,
    set_generation_state,
    to_atoms,
)
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.coordination import coordination_fractions
from nearedge_services.structures.fingerprint import NOVELTY_THRESHOLD

RESCORE = "rescore"


@dataclass
class Waiting:
    """A scored candidate that may be labelled."""

    candidate_id: int
    structure_id: int
    structure_hash: str
    role: GenerationRole
    density_g_cm3: float
    atoms: Atoms
    fingerprint: npt.NDArray[np.float64]
    prediction: Prediction
    acquisition_value: float | None = None
    """What the acquisition function said when it was chosen for a label; None for an unguided sample."""


@dataclass
class Scoring:
    """Turns raw structures into candidates that wait for a label, or are rejected with a reason."""

    context: Context
    proposing: Proposing
    training: Training
    name: str = "scoring"
    pool: str = "scorer"
    waiting: dict[int, Waiting] = field(default_factory=dict)
    scored_guided: int = 0
    """Guided candidates scored so far, rejected ones included."""
    rejected: Counter[str] = field(default_factory=Counter)
    """First word of the reason -> how many candidates were rejected for it in this session."""
    _fruitless: int = 0
    """Batches in a row of which no candidate passed."""
    _latest_reason: dict[str, str] = field(default_factory=dict)
    _under_way: dict[int, Batch] = field(default_factory=dict)

    def start(self) -> None:
        """Take up the candidates that were waiting when the campaign stopped."""
        from nearedge_services.structures.fingerprint import fingerprint

        context = self.context
        with context.database.session() as session:
            generations = {row.id: row for row in list_generations(session, context.campaign_id)}
            rows = candidates(session, context.campaign_id, [CandidateState.WAITING])
            scored = candidate_counts(session, context.campaign_id, GenerationRole.GUIDED)
            structures = {row.id: get_structure(session, row.structure_id) for row in rows}
        for row in rows:
            generation, atoms = generations[row.generation_id], to_atoms(structures[row.id])
            self.waiting[row.id] = Waiting(
                candidate_id=row.id,
                structure_id=row.structure_id,
                structure_hash=structures[row.id].hash,
                role=generation.role,
                density_g_cm3=density_g_cm3(atoms),
                atoms=atoms,
                fingerprint=fingerprint(atoms),
                prediction=Prediction(
                    row.predicted_distance or 0.0,
                    row.predicted_distance_std or 0.0,
                    row.predicted_energy_per_atom_ev or 0.0,
                    row.energy_std_per_atom_ev or 0.0,
                ),
            )
        self.scored_guided = sum(scored.values())

    @property
    def structures_under_way(self) -> list[Batch]:
        """Batches that the scorers have."""
        return list(self._under_way.values())

    def count_under_way(self, role: GenerationRole) -> int:
        """Structures of this role that the scorers have."""
        return sum(len(b.structures) for b in self._under_way.values() if b.generation.role is role)

    @property
    def backlog(self) -> int:
        """Batches that could be scored now, and one look at what waits where there is a new model."""
        champions = self.context.champions
        if "surrogate" not in champions or "potential" not in champions or self.context.target is None:
            return 0
        return len(self.proposing.raw) + bool(self.training.new_champions and self.waiting)

    def offer(self) -> Work | None:
        """New models first look at what waits; then the next raw batch."""
        champions, target = self.context.champions, self.context.target
        if "surrogate" not in champions or "potential" not in champions or target is None:
            return None
        judging = Judging(target, champions["surrogate"], champions["potential"])
        if self.training.new_champions:
            self.training.new_champions.clear()
            if self.waiting:
                ids = list(self.waiting)
                atoms = [self.waiting[key].atoms for key in ids]
                return Work("predict", (atoms, judging), tag=(RESCORE, ids, judging))
        if not self.proposing.raw:
            return None
        batch = self.proposing.raw.popleft()
        self._under_way[batch.generation.id] = batch
        settings = self.context.config.generation
        relaxing = Relaxing(settings.relax_steps, batch.generation.settings_json["spectral_weight_ev"])
        return Work("score", (batch.structures, relaxing, judging), tag=("score", batch, judging))

    def accept(self, done: Done) -> None:
        """Enter the scores into the database; a batch whose scorer died is scored again."""
        what, subject, judging = done.work.tag
        if what == RESCORE:
            if done.error is not None and not done.lost:
                raise done.error
            if done.lost:
                self.training.new_champions.append("surrogate")
                return
            self._rescore(subject, done.value, judging)
            return
        del self._under_way[subject.generation.id]
        if done.lost:
            if not self.proposing.is_given_up(subject.generation):
                self.proposing.raw.appendleft(subject)
            return
        if done.error is not None:
            raise done.error
        self._enter(subject, done.value, judging)

    def _rescore(self, ids: list[int], predictions: list[Prediction], judging: Judging) -> None:
        scores = {}
        for candidate_id, prediction in zip(ids, predictions, strict=True):
            if candidate_id in self.waiting:
                self.waiting[candidate_id].prediction = prediction
                scores[candidate_id] = _score(prediction, judging)
        with self.context.database.begin() as session:
            rescore(session, scores)

    def _enter(self, batch: Batch, results: list[Scored | Broken], judging: Judging) -> None:
        """All candidates of a batch in one transaction; then tell Optuna."""
        passed: list[Waiting] = []
        distances: list[float] = []
        with self.context.database.begin() as session:
            for index, (raw, result) in enumerate(zip(batch.structures, results, strict=True)):
                waiting = self._candidate(session, batch, index, raw, result, judging)
                if waiting is not None:
                    passed.append(waiting)
                distances.append(
                    self.context.worst_distance if waiting is None else waiting.prediction.distance
                )
            set_generation_state(session, batch.generation.id, GenerationState.SCORED)
        self.waiting.update({entry.candidate_id: entry for entry in passed})
        self._ask_again_if_outdated(judging)
        if batch.guided:
            self.scored_guided += len(results)
            if batch.generation.trial_number is not None:
                self.context.steering.tell(batch.generation.trial_number, statistics.fmean(distances))
        self._fruitless = 0 if passed else self._fruitless + 1
        if self._fruitless >= self.context.config.stop.fruitless_generations and not self.waiting:
            raise CampaignFailedError(self._why_fruitless())

    def _ask_again_if_outdated(self, judging: Judging) -> None:
        """A batch that was scored while a better model arrived is predicted again, with all that waits."""
        for held in (judging.surrogate, judging.potential):
            if self.context.champions[held.kind].model_id != held.model_id:
                self.training.new_champions.append(held.kind)

    def _why_fruitless(self) -> str:
        word, count = self.rejected.most_common(1)[0]
        return (
            f"{self._fruitless} batches in a row had no candidate that passed the gate; of "
            f"{self.rejected.total()} rejections {count} were for: {word} (the latest: {self._latest_reason[word]}); "
            "see `gate` in the settings"
        )

    def _candidate(
        self,
        session: Session,
        batch: Batch,
        index: int,
        raw: Atoms,
        result: Scored | Broken,
        judging: Judging,
    ) -> Waiting | None:
        """The rows of one candidate; returns it if it passed the gate."""
        generation, context = batch.generation, self.context
        verdict = self._judge(result, batch.guided)
        structure = put_atoms(session, result.atoms, coordination_fractions(result.atoms))
        raw_row = put_atoms(session, raw, coordination_fractions(raw))
        scored = result if isinstance(result, Scored) else None
        candidate: Candidate = add_candidate(
            session,
            generation.id,
            index,
            structure.id,
            raw_structure_id=raw_row.id,
            state=CandidateState.WAITING if verdict.passed else CandidateState.REJECTED,
            reason=verdict.reason,
            score=None if scored is None else _score(scored.prediction, judging),
            relax_rms_displacement_a=None if scored is None else scored.rms_displacement_a,
            shortest_contact_a=None if scored is None else scored.shortest_contact_a,
            relax_surrogate_model_id=judging.surrogate.model_id if is_biased(generation) else None,
            relax_potential_model_id=judging.potential.model_id,
        )
        link_structure(
            session,
            context.campaign_id,
            structure.id,
            StructureOrigin.GUIDED if batch.guided else StructureOrigin.BASELINE,
            structure.hash,
            seed=generation.settings_json["seeds"][index],
            held_out=is_held_out(structure.hash, context.config.seeds.held_out_fraction),
            candidate_id=candidate.id,
        )
        if verdict.reason is not None:
            word = first_word(verdict.reason)
            self.rejected[word] += 1
            self._latest_reason[word] = verdict.reason
        if scored is None or candidate.state is not CandidateState.WAITING:
            return None
        return Waiting(
            candidate_id=candidate.id,
            structure_id=structure.id,
            structure_hash=structure.hash,
            role=generation.role,
            density_g_cm3=density_g_cm3(result.atoms),
            atoms=scored.atoms,
            fingerprint=scored.fingerprint,
            prediction=scored.prediction,
        )

    def _judge(self, result: Scored | Broken, guided: bool) -> Verdict:
        """The full gate for guided candidates; the baseline is only asked not to be broken."""
        context = self.context
        if isinstance(result, Broken):
            return Verdict(f"broken: {result.reason}")
        if not guided:
            valid = result.contact >= context.config.gate.min_contact
            return Verdict(None if valid else f"contact {result.contact:.2f} of the covalent distance")
        if context.energy_reference is None:
            raise RuntimeError("candidates cannot be judged before the starting structures are complete")
        measures = Measures(
            contact=result.contact,
            overcoordinated_fraction=result.overcoordinated_fraction,
            density_g_cm3=density_g_cm3(result.atoms),
            energy_per_atom_ev=result.prediction.energy_per_atom_ev,
            nearest_fingerprint=context.nearest_known(result.fingerprint),
        )
        novelty = context.config.gate.novelty
        threshold = NOVELTY_THRESHOLD if novelty is None else novelty
        return judge(measures, context.energy_reference, context.config.gate, threshold)


def is_biased(generation: Generation) -> bool:
    """Whether its structures are relaxed on the spectral mismatch too, which the surrogate gives."""
    return float(generation.settings_json["spectral_weight_ev"]) > 0


def _score(prediction: Prediction, judging: Judging) -> Score:
    return Score(
        predicted_distance=prediction.distance,
        predicted_distance_std=prediction.distance_std,
        predicted_energy_per_atom_ev=prediction.energy_per_atom_ev,
        energy_std_per_atom_ev=prediction.energy_std_per_atom_ev,
        surrogate_model_id=judging.surrogate.model_id,
        potential_model_id=judging.potential.model_id,
    )

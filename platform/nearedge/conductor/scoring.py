"""The scoring stage: relax, predict, gate; and predict again for what waits when a better model comes."""

import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from sqlalchemy.orm import Session

from nearedge.chance import is_held_out
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.proposing import Batch, Proposing
from nearedge.conductor.training import Training
from nearedge.gate import Measures, Verdict, first_word, judge
from nearedge.steering import SEARCHED
from nearedge_agents.pool import Done, Work
from nearedge_agents.scorer import Broken, Judging, Prediction, Relaxing, Scored
from nearedge_db.schema import Generation
from nearedge_db.states import CandidateState, GenerationRole, GenerationState, StructureOrigin
from nearedge_db.store import (
    Link,
    NewCandidate,
    Score,
    add_candidates,
    candidate_counts,
    link_structures,
    put_all_atoms,
    rescore,
    set_generation_state,
    take_up,
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
    parameters: dict[str, float]
    """What it was made with, for Optuna."""
    nearest: float = float("inf")
    """Fingerprint distance to the nearest of the first ``compared`` known structures."""
    compared: int = 0
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
            scored = candidate_counts(session, context.campaign_id, GenerationRole.GUIDED)
            for row in take_up(session, context.campaign_id, [CandidateState.WAITING]):
                atoms = Atoms(numbers=row.numbers, positions=row.positions, cell=row.cell, pbc=True)
                self.waiting[row.candidate_id] = Waiting(
                    candidate_id=row.candidate_id,
                    structure_id=row.structure_id,
                    structure_hash=row.structure_hash,
                    role=row.role,
                    density_g_cm3=row.density_g_cm3,
                    atoms=atoms,
                    fingerprint=fingerprint(atoms),
                    prediction=Prediction(
                        row.score.predicted_distance or 0.0,
                        row.score.predicted_distance_std or 0.0,
                        row.score.predicted_energy_per_atom_ev or 0.0,
                        row.score.energy_std_per_atom_ev or 0.0,
                    ),
                    parameters=parameters_of(row.role, row.settings, row.density_g_cm3),
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

    def takes_over(self, work: Work) -> bool:
        """Nothing: it is done again."""
        return False

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
        with self.context.database.begin(synced=False) as session:
            rescore(session, scores)

    def _enter(self, batch: Batch, results: list[Scored | Broken], judging: Judging) -> None:
        """All candidates of a batch in one transaction; then tell Optuna."""
        generation, steering = batch.generation, self.context.steering
        verdicts = self._judge_all(results, batch.guided)
        with self.context.database.begin(synced=False) as session:
            passed = self._write(session, batch, results, verdicts, judging)
            set_generation_state(session, generation.id, GenerationState.SCORED)
            if batch.guided and generation.trial_number is not None:
                distances = [one.prediction.distance for one in passed]
                rejected = [self.context.worst_distance] * (len(results) - len(passed))
                mean = statistics.fmean(distances + rejected)
                steering.tell(generation.trial_number, mean, session)
        self.waiting.update({entry.candidate_id: entry for entry in passed})
        self._count(verdicts)
        self._ask_again_if_outdated(judging)
        if batch.guided:
            self.scored_guided += len(results)
        self._fruitless = 0 if passed else self._fruitless + 1
        if self._fruitless >= self.context.config.stop.fruitless_generations and not self.waiting:
            raise CampaignFailedError(self._why_fruitless())

    def _count(self, verdicts: list[Verdict]) -> None:
        for reason in (verdict.reason for verdict in verdicts):
            if reason is not None:
                word = first_word(reason)
                self.rejected[word] += 1
                self._latest_reason[word] = reason

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

    def _write(
        self,
        session: Session,
        batch: Batch,
        results: list[Scored | Broken],
        verdicts: list[Verdict],
        judging: Judging,
    ) -> list[Waiting]:
        """The rows of all candidates of a batch; returns those that passed the gate."""
        ends = [
            (one.atoms, one.coordination if isinstance(one, Scored) else coordination_fractions(one.atoms))
            for one in results
        ]
        raws = [
            (raw, one.raw_coordination if isinstance(one, Scored) else coordination_fractions(raw))
            for raw, one in zip(batch.structures, results, strict=True)
        ]
        rows = put_all_atoms(session, [*ends, *raws])
        structures = [(end, raw) for end, (raw, _) in zip(rows[: len(ends)], rows[len(ends) :], strict=True)]
        new = [
            _new_candidate(batch.generation, index, structures[index], results[index], verdict, judging)
            for index, verdict in enumerate(verdicts)
        ]
        ids = add_candidates(session, batch.generation, new)
        fraction = self.context.config.seeds.held_out_fraction
        origin = StructureOrigin.GUIDED if batch.guided else StructureOrigin.BASELINE
        links = [
            Link(
                structure_id=number,
                origin=origin,
                group_name=content_hash,
                seed=batch.generation.settings_json["seeds"][index],
                held_out=is_held_out(content_hash, fraction),
                candidate_id=ids[index],
            )
            for index, ((number, content_hash), _) in enumerate(structures)
        ]
        link_structures(session, self.context.campaign_id, links)
        return [
            _waiting(batch.generation, ids[index], structures[index][0], result)
            for index, (verdict, result) in enumerate(zip(verdicts, results, strict=True))
            if verdict.passed and isinstance(result, Scored)
        ]

    def _judge_all(self, results: list[Scored | Broken], guided: bool) -> list[Verdict]:
        """What becomes of each candidate of a batch."""
        scored = [one for one in results if isinstance(one, Scored)]
        nearest = iter(self.context.known.nearest([one.fingerprint for one in scored]))
        return [
            self._judge(one, guided, float(next(nearest)))
            if isinstance(one, Scored)
            else Verdict(f"broken: {one.reason}")
            for one in results
        ]

    def _judge(self, result: Scored, guided: bool, nearest: float) -> Verdict:
        """The full gate for guided candidates; the baseline is only asked not to be broken."""
        context = self.context
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
            nearest_fingerprint=nearest,
        )
        novelty = context.config.gate.novelty
        threshold = NOVELTY_THRESHOLD if novelty is None else novelty
        return judge(measures, context.energy_reference, context.config.gate, threshold)


def is_biased(generation: Generation) -> bool:
    """Whether its structures are relaxed on the spectral mismatch too, which the surrogate gives."""
    return float(generation.settings_json["spectral_weight_ev"]) > 0


def parameters_of(role: GenerationRole, settings: dict[str, Any], density_g_cm3: float) -> dict[str, float]:
    """What Optuna is told that a structure was made with: of an unguided sample the density only."""
    searched = {name: settings[name] for name in SEARCHED} if role is GenerationRole.GUIDED else {}
    return {"density_g_cm3": density_g_cm3, **searched}


def _new_candidate(
    generation: Generation,
    index: int,
    structures: tuple[tuple[int, str], int],
    result: Scored | Broken,
    verdict: Verdict,
    judging: Judging,
) -> NewCandidate:
    (structure_id, _), raw_structure_id = structures
    scored = result if isinstance(result, Scored) else None
    return NewCandidate(
        index=index,
        structure_id=structure_id,
        raw_structure_id=raw_structure_id,
        state=CandidateState.WAITING if verdict.passed else CandidateState.REJECTED,
        reason=verdict.reason,
        score=None if scored is None else _score(scored.prediction, judging),
        relax_rms_displacement_a=None if scored is None else scored.rms_displacement_a,
        shortest_contact_a=None if scored is None else scored.shortest_contact_a,
        relax_surrogate_model_id=judging.surrogate.model_id if is_biased(generation) else None,
        relax_potential_model_id=judging.potential.model_id,
    )


def _waiting(
    generation: Generation, candidate_id: int, structure: tuple[int, str], scored: Scored
) -> Waiting:
    density = density_g_cm3(scored.atoms)
    return Waiting(
        candidate_id=candidate_id,
        structure_id=structure[0],
        structure_hash=structure[1],
        role=generation.role,
        density_g_cm3=density,
        atoms=scored.atoms,
        fingerprint=scored.fingerprint,
        prediction=scored.prediction,
        parameters=parameters_of(generation.role, generation.settings_json, density),
    )


def _score(prediction: Prediction, judging: Judging) -> Score:
    return Score(
        predicted_distance=prediction.distance,
        predicted_distance_std=prediction.distance_std,
        predicted_energy_per_atom_ev=prediction.energy_per_atom_ev,
        energy_std_per_atom_ev=prediction.energy_std_per_atom_ev,
        surrogate_model_id=judging.surrogate.model_id,
        potential_model_id=judging.potential.model_id,
    )

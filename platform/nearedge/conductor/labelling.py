"""The labelling stage: spends the oracle on the baseline, then on the most useful candidates."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from nearedge.acquisition import Array, faded, make_policy, rank
from nearedge.chance import seed_for
from nearedge.conductor.context import Context
from nearedge.conductor.scoring import Scoring, Waiting
from nearedge.conductor.tasks import TaskQueue
from nearedge.steering import SEARCHED
from nearedge_agents.pool import Done, Work
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Task
from nearedge_db.schema import Candidate, Generation, Structure
from nearedge_db.states import CandidateState, GenerationRole, LabelRole, TaskKind, TaskState
from nearedge_db.store import (
    candidates,
    get_label,
    get_structure,
    label_uses,
    list_generations,
    set_candidate_state,
    to_atoms,
    use_label,
)
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.structures.fingerprint import NOVELTY_THRESHOLD, fingerprint


@dataclass
class Labelling:
    """Chooses what is labelled next, and puts finished labels to use."""

    context: Context
    scoring: Scoring
    name: str = "labelling"
    pool: str = "labeler"
    guided_labels: int = 0
    baseline_labels: int = 0
    best_guided: float = float("inf")
    """Best oracle-computed distance of a guided candidate, 1/eV."""
    since_best: int = 0
    """Guided labels in a row that brought no better structure."""
    closing: bool = False
    """Set when no further label is wanted: what is queued is still done."""
    _queue: TaskQueue = field(default_factory=TaskQueue)
    _role: dict[int, tuple[GenerationRole, int]] = field(default_factory=dict)
    """Task under way -> role and candidate."""

    def start(self) -> None:
        """Count the labels there are, learn what is known, and take up the candidates that were queued."""
        self._recount()
        context = self.context
        with context.database.session() as session:
            generations = {row.id: row for row in list_generations(session, context.campaign_id)}
            states = [CandidateState.LABELLED, CandidateState.QUEUED]
            rows = candidates(session, context.campaign_id, states)
            structures = {row.id: get_structure(session, row.structure_id) for row in rows}
            uses = label_uses(session, context.campaign_id)
            distances = {use.structure_id: use.spectral_distance for use in uses}
        for row in rows:
            generation, structure = generations[row.generation_id], structures[row.id]
            context.known.append(fingerprint(to_atoms(structure)))
            if row.state is CandidateState.QUEUED:
                self._take_up(row, generation.role)
                continue
            # A driver that was killed may have stored the label without telling Optuna.
            distance = distances.get(row.structure_id)
            if distance is not None:
                self._tell(structure, generation, distance)

    def committed(self, role: GenerationRole) -> int:
        """Labels of this role that are done or on their way."""
        done = self.guided_labels if role is GenerationRole.GUIDED else self.baseline_labels
        return done + sum(r is role for r, _ in self._role.values())

    @property
    def under_way(self) -> int:
        """Labels that are queued or being computed."""
        return self._queue.unfinished

    @property
    def backlog(self) -> int:
        """Labels that could be computed now: what is queued, and candidates that would be chosen."""
        if self.closing:
            return self._queue.ready
        acquisition, stop = self.context.config.acquisition, self.context.config.stop
        by_role = Counter(waiting.role for waiting in self.scoring.waiting.values())
        baseline = min(
            stop.baseline - self.committed(GenerationRole.BASELINE), by_role[GenerationRole.BASELINE]
        )
        guided = min(
            stop.labels - self.committed(GenerationRole.GUIDED),
            by_role[GenerationRole.GUIDED],
            int(self.surplus() / acquisition.selectivity),
        )
        return self._queue.ready + max(baseline, 0) + max(guided, 0)

    def offer(self) -> Work | None:
        """What is queued; else the next baseline sample; else the most useful candidate, if we can be choosy."""
        work = self._queue.offer()
        if work is not None or self.closing:
            return work
        chosen = self._next_baseline() or self._next_guided()
        if chosen is None:
            return None
        self._submit(chosen)
        return self._queue.offer()

    def accept(self, done: Done) -> None:
        """Put a finished label to use; a candidate that failed at the oracle for good is set aside."""
        report = self._queue.accept(done)
        if report is None:
            return
        task = self.context.ledger.get(report.task_id)
        if report.state is TaskState.DONE:
            self._settle(task)
        else:
            self._give_up(task)

    def drop_surplus(self) -> int:
        """Drop the least useful guided candidates beyond ``acquisition.max_waiting``; how many."""
        guided = [w for w in self.scoring.waiting.values() if w.role is GenerationRole.GUIDED]
        surplus = len(guided) - self.context.config.acquisition.max_waiting
        if surplus <= 0:
            return 0
        dropped = [guided[index].candidate_id for index in rank(self._values(guided))[-surplus:]]
        with self.context.database.begin() as session:
            set_candidate_state(session, dropped, CandidateState.DROPPED, "less useful than the others")
        for candidate_id in dropped:
            del self.scoring.waiting[candidate_id]
        return surplus

    def surplus(self) -> float:
        """Scored guided candidates beyond what the labels committed so far account for."""
        selectivity = self.context.config.acquisition.selectivity
        return self.scoring.scored_guided - selectivity * self.committed(GenerationRole.GUIDED)

    def _next_baseline(self) -> Waiting | None:
        if self.committed(GenerationRole.BASELINE) >= self.context.config.stop.baseline:
            return None
        waiting = [w for w in self.scoring.waiting.values() if w.role is GenerationRole.BASELINE]
        return min(waiting, key=lambda w: w.candidate_id, default=None)

    def _next_guided(self) -> Waiting | None:
        settings = self.context.config
        if self.committed(GenerationRole.GUIDED) >= settings.stop.labels:
            return None
        if self.surplus() < settings.acquisition.selectivity:
            return None
        guided = [w for w in self.scoring.waiting.values() if w.role is GenerationRole.GUIDED]
        if not guided:
            return None
        values = self._values(guided)
        first = rank(values)[0]
        guided[first].acquisition_value = float(values[first])
        return guided[first]

    def _values(self, waiting: list[Waiting]) -> Array:
        """What each is worth to the acquisition function now, shape (C,)."""
        context = self.context
        generator = np.random.default_rng(
            seed_for(context.config.seed, "acquisition", self.committed(GenerationRole.GUIDED))
        )
        usefulness = make_policy(context.config.acquisition.policy)(
            np.array([w.prediction.distance for w in waiting]),
            np.array([w.prediction.distance_std for w in waiting]),
            context.best_distance,
            generator,
        )
        nearest = np.array([context.nearest_known(w.fingerprint) for w in waiting])
        return faded(usefulness, nearest, NOVELTY_THRESHOLD)

    def _submit(self, chosen: Waiting) -> None:
        context = self.context
        task = context.ledger.submit(
            TaskKind.LABEL,
            task_identity(TaskKind.LABEL, chosen.structure_hash, context.settings_hash),
            {},
            campaign_id=context.campaign_id,
            structure_id=chosen.structure_id,
            settings_hash=context.settings_hash,
        )
        with context.database.begin() as session:
            set_candidate_state(
                session,
                chosen.candidate_id,
                CandidateState.QUEUED,
                task_id=task.id,
                acquisition_value=chosen.acquisition_value,
            )
        del self.scoring.waiting[chosen.candidate_id]
        context.known.append(chosen.fingerprint)
        self._follow(task, chosen.role, chosen.candidate_id)

    def _take_up(self, row: Candidate, role: GenerationRole) -> None:
        if row.task_id is None:
            raise RuntimeError(f"candidate {row.id} is queued without a task")
        self._follow(self.context.ledger.get(row.task_id), role, row.id)

    def _follow(self, task: Task, role: GenerationRole, candidate_id: int) -> None:
        self._role[task.id] = (role, candidate_id)
        if task.state is TaskState.DONE:
            self._settle(task)
        elif task.state.is_finished():
            self._give_up(task)
        else:
            self._queue.add(task.id)

    def _settle(self, task: Task) -> None:
        """Use of the label, distance and the candidate's new state in one transaction."""
        context = self.context
        role, candidate_id = self._role.pop(task.id)
        with context.database.begin() as session:
            label = get_label(session, task.structure_id or 0, context.settings_hash)
            structure = get_structure(session, task.structure_id or 0)
            if label is None or context.target is None:
                raise RuntimeError(f"task {task.id} is DONE without a label or a target")
            mean = cell_mean(label.xanes, structure.numbers, context.absorber, context.oracle.grid)
            distance = float(context.target.distance(mean))
            use_label(session, context.campaign_id, label.id, LabelRole(role.value), distance, candidate_id)
            set_candidate_state(session, candidate_id, CandidateState.LABELLED)
            generation = session.get_one(Generation, session.get_one(Candidate, candidate_id).generation_id)
        context.labels_settled += 1
        if not self._tell(structure, generation, distance):
            context.event("label outside the searched ranges", structure_id=structure.id)
        self._recount()

    def _tell(self, structure: Structure, generation: Generation, distance: float) -> bool:
        """Tell Optuna what was measured, if it can take it; an unguided sample tells of its density only."""
        parameters = {"density_g_cm3": structure.density_g_cm3}
        if generation.role is GenerationRole.GUIDED:
            parameters |= {name: generation.settings_json[name] for name in SEARCHED}
        return self.context.steering.add_measured(structure.hash, parameters, distance, generation.role.value)

    def _give_up(self, task: Task) -> None:
        _, candidate_id = self._role.pop(task.id)
        with self.context.database.begin() as session:
            set_candidate_state(session, candidate_id, CandidateState.FAILED, task.last_error)

    def _recount(self) -> None:
        """Counts, the best distance, and how long ago it was found: from the database."""
        with self.context.database.session() as session:
            uses = label_uses(session, self.context.campaign_id)
        measured = [(u.role, u.spectral_distance) for u in uses if u.spectral_distance is not None]
        guided = [distance for role, distance in measured if role is LabelRole.GUIDED]
        self.baseline_labels = sum(role is LabelRole.BASELINE for role, _ in measured)
        self.guided_labels = len(guided)
        self.context.best_distance = min((distance for _, distance in measured), default=float("inf"))
        self.best_guided = min(guided, default=float("inf"))
        self.since_best = guided[::-1].index(self.best_guided) if guided else 0

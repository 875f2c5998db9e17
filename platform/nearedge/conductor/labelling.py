"""The labelling stage: spends the oracle on the baseline, then on the most useful candidates."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from ase import Atoms
from sqlalchemy.orm import Session

from nearedge.acquisition import Array, faded, make_policy, rank
from nearedge.chance import seed_for
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.scoring import Scoring, Waiting, parameters_of
from nearedge.conductor.tasks import TaskQueue
from nearedge_agents.pool import Done, Work
from nearedge_db.errors import one_line
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Standing, enter
from nearedge_db.states import CandidateState, GenerationRole, LabelRole, TaskKind, TaskState
from nearedge_db.store import (
    TakenUp,
    get_spectra,
    label_uses,
    set_candidate_state,
    take_up,
    use_label_once,
)
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.structures.fingerprint import NOVELTY_THRESHOLD, fingerprint

FRUITLESS_LABELS = 25
"""The campaign fails when so many labels in a row are given up: no budget would ever be spent."""


@dataclass(frozen=True)
class Subject:
    """What a label is for: all that is needed when it comes."""

    role: GenerationRole
    candidate_id: int
    structure_id: int
    structure_hash: str
    numbers: npt.NDArray[np.int64]
    """Atomic numbers, shape (N,)."""
    parameters: dict[str, float]
    """What Optuna is told it was made with: of an unguided sample the density only."""

    @classmethod
    def chosen(cls, one: Waiting) -> "Subject":
        """Of a candidate that waited."""
        return cls(
            one.role,
            one.candidate_id,
            one.structure_id,
            one.structure_hash,
            one.atoms.numbers,
            one.parameters,
        )

    @classmethod
    def taken_up(cls, row: TakenUp) -> "Subject":
        """Of a candidate of an earlier session."""
        parameters = parameters_of(row.role, row.settings, row.density_g_cm3)
        return cls(row.role, row.candidate_id, row.structure_id, row.structure_hash, row.numbers, parameters)


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
    _followed: dict[int, Subject] = field(default_factory=dict)
    """Task under way -> what it labels."""
    _given_up: int = 0
    """Labels given up since the last one that was done."""

    def start(self) -> None:
        """Count the labels there are, learn what is known, and take up the candidates that were queued."""
        self._count()
        context = self.context
        with context.database.session() as session:
            uses = label_uses(session, context.campaign_id)
            distances = {use.structure_id: use.spectral_distance for use in uses}
            states = [CandidateState.LABELLED, CandidateState.QUEUED]
            for row in take_up(session, context.campaign_id, states):
                atoms = Atoms(numbers=row.numbers, positions=row.positions, cell=row.cell, pbc=True)
                context.known.add(fingerprint(atoms))
                subject = Subject.taken_up(row)
                if row.state is CandidateState.QUEUED:
                    self._take_up(row, subject)
                    continue
                # A driver that was killed may have stored the label without telling Optuna.
                distance = distances.get(row.structure_id)
                if distance is not None:
                    self._tell(subject, distance)

    def committed(self, role: GenerationRole) -> int:
        """Labels of this role that are done or on their way."""
        done = self.guided_labels if role is GenerationRole.GUIDED else self.baseline_labels
        return done + sum(one.role is role for one in self._followed.values())

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

    def takes_over(self, work: Work) -> bool:
        """Of a task that it would offer."""
        return self._queue.take_over(work)

    def accept(self, done: Done) -> None:
        """Put a finished label to use; a candidate that failed at the oracle for good is set aside."""
        report = self._queue.accept(done)
        if report is None:
            return
        if report.state is TaskState.DONE:
            self._given_up = 0
            self._settle(report.task_id)
            return
        self._give_up(report.task_id, report.error)
        self._given_up += 1
        if self._given_up >= FRUITLESS_LABELS:
            raise CampaignFailedError(
                f"{self._given_up} labels in a row failed for good: mend what they say and run the same again, which "
                f"continues; the last: {one_line(report.error or '')}"
            )

    def drop_surplus(self) -> int:
        """Drop the least useful guided candidates beyond ``acquisition.max_waiting``; how many."""
        guided = [w for w in self.scoring.waiting.values() if w.role is GenerationRole.GUIDED]
        surplus = len(guided) - self.context.config.acquisition.max_waiting
        if surplus <= 0:
            return 0
        dropped = [guided[index].candidate_id for index in rank(self._values(guided))[-surplus:]]
        with self.context.database.begin(synced=False) as session:
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
        return faded(usefulness, context.known.update(waiting), NOVELTY_THRESHOLD)

    def _submit(self, chosen: Waiting) -> None:
        """The task and the candidate's new state in one transaction."""
        context = self.context
        identity = task_identity(TaskKind.LABEL, chosen.structure_hash, context.settings_hash)
        columns = {"structure_id": chosen.structure_id, "settings_hash": context.settings_hash}

        def work(session: Session) -> Standing:
            task = enter(session, TaskKind.LABEL, identity, {}, context.campaign_id, **columns)
            set_candidate_state(
                session,
                chosen.candidate_id,
                CandidateState.QUEUED,
                task_id=task.id,
                acquisition_value=chosen.acquisition_value,
            )
            return task

        standing = context.database.run(work, synced=False)
        del self.scoring.waiting[chosen.candidate_id]
        context.known.add(chosen.fingerprint)
        self._follow(*standing, Subject.chosen(chosen))

    def _take_up(self, row: TakenUp, subject: Subject) -> None:
        if row.task_id is None:
            raise RuntimeError(f"candidate {row.candidate_id} is queued without a task")
        task = self.context.ledger.get(row.task_id)
        self._follow(task.id, task.state, task.last_error, subject)

    def _follow(self, task_id: int, state: TaskState, error: str | None, subject: Subject) -> None:
        self._followed[task_id] = subject
        if state is TaskState.DONE:
            self._settle(task_id)
        elif state.is_finished():
            self._give_up(task_id, error)
        else:
            self._queue.add(task_id)

    def _settle(self, task_id: int) -> None:
        """Use of the label, distance, the candidate's new state and Optuna's trial in one transaction."""
        context, subject = self.context, self._followed.pop(task_id)
        with context.database.begin(synced=False) as session:
            label = get_spectra(session, subject.structure_id, context.settings_hash)
            if label is None or context.target is None:
                raise RuntimeError(f"task {task_id} is DONE without a label or a target")
            mean = cell_mean(label[1], subject.numbers, context.absorber, context.oracle.grid)
            distance = float(context.target.distance(mean))
            role = LabelRole(subject.role.value)
            is_new = use_label_once(
                session, context.campaign_id, label[0], role, distance, subject.candidate_id
            )
            set_candidate_state(session, subject.candidate_id, CandidateState.LABELLED)
            inside = self._tell(subject, distance, session)
        context.labels_settled += 1
        if not inside:
            context.event("label outside the searched ranges", structure_id=subject.structure_id)
        if is_new:
            self._count_one(role, distance)

    def _tell(self, subject: Subject, distance: float, session: Session | None = None) -> bool:
        """Tell Optuna what was measured, if it can take it."""
        facts = (subject.structure_hash, subject.parameters, distance, subject.role.value)
        return self.context.steering.add_measured(*facts, session)

    def _give_up(self, task_id: int, error: str | None) -> None:
        subject = self._followed.pop(task_id)
        with self.context.database.begin(synced=False) as session:
            set_candidate_state(session, subject.candidate_id, CandidateState.FAILED, error)

    def _count(self) -> None:
        """Counts, the best distance, and how long ago it was found: from the database."""
        with self.context.database.session() as session:
            uses = label_uses(session, self.context.campaign_id)
        self.guided_labels = self.baseline_labels = self.since_best = 0
        self.best_guided = self.context.best_distance = float("inf")
        for use in uses:
            if use.spectral_distance is not None:
                self._count_one(use.role, use.spectral_distance)

    def _count_one(self, role: LabelRole, distance: float) -> None:
        self.context.best_distance = min(self.context.best_distance, distance)
        self.baseline_labels += role is LabelRole.BASELINE
        if role is LabelRole.GUIDED:
            self.guided_labels += 1
            self.since_best = 0 if distance <= self.best_guided else self.since_best + 1
            self.best_guided = min(self.best_guided, distance)

"""The confirming stage: a second, dearer oracle labels the best structures and a few starting structures once more.

Its labels are tasks of the ledger like all others, but nothing learns from them, and their distances are to the target
on the second oracle's own energies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nearedge.conductor.context import Context
from nearedge.conductor.foresight import Foresight
from nearedge.conductor.labelling import Labelling
from nearedge.conductor.placing import place_target, spread_over
from nearedge.conductor.seeding import Seeding
from nearedge.conductor.tasks import TaskQueue
from nearedge.confirmed import TARGET_EVENT, UNPLACED_EVENT, read_target
from nearedge_agents.pool import Done, Work
from nearedge_db.errors import UserError
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Task
from nearedge_db.states import LabelRole, TaskKind, TaskState
from nearedge_db.store import (
    UsedLabel,
    add_event,
    get_label,
    get_structure,
    label_uses,
    set_distances,
    use_label,
    used_labels,
)
from nearedge_services.oracles.base import Oracle
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.spectra.target import Target


@dataclass
class Confirming:
    """Has the starting structures for comparison and the best guided structures labelled by the second oracle."""

    context: Context
    seeding: Seeding
    labelling: Labelling
    name: str = "confirming"
    pool: str = "labeler"
    target: Target | None = None
    """The target on the second oracle's energies, once it is placed there."""
    _queue: TaskQueue = field(default_factory=TaskQueue)
    _starts: list[int] | None = None
    """Starting structures that this oracle is to label; None before they are chosen."""
    _open: dict[int, int] = field(default_factory=dict)
    """Task under way -> structure."""
    _asked: set[int] = field(default_factory=set)
    """Structures that were asked for in this session."""
    _chosen_at: int = 0
    """Guided labels there were when the best were chosen last."""
    _is_placed: bool = False
    """Whether the target has been placed in this session, or cannot be."""

    @property
    def owes(self) -> bool:
        """Whether something is still to be confirmed before the campaign may end."""
        if self.context.confirming is None or not self.seeding.complete:
            return False
        chosen = self._starts is not None and self._chosen_at == self.labelling.guided_labels
        return bool(self._queue.unfinished) or not chosen

    @property
    def backlog(self) -> int:
        """Labels of the second oracle that could be computed now."""
        return self._queue.ready

    @property
    def progress(self) -> tuple[int, int]:
        """Structures of this session that the second oracle is done with, and how many were asked for so far."""
        return len(self._asked) - len(self._open), len(self._asked)

    def offer(self) -> Work | None:
        """The next structure to confirm: starting structures first, the best when the labels are spent."""
        if self.context.confirming is None or not self.seeding.complete:
            return None
        if self._starts is None:
            self._choose_starts()
        if self._is_due():
            self._choose_best()
        return self._queue.offer()

    def takes_over(self, work: Work) -> bool:
        """Of a task that it would offer."""
        return self._queue.take_over(work)

    def accept(self, done: Done) -> None:
        """Put a finished label to use; a structure that failed for good stays unconfirmed."""
        report = self._queue.accept(done)
        if report is None:
            return
        structure_id = self._open.pop(report.task_id)
        if report.state is TaskState.DONE:
            self._settle(structure_id)
        else:
            self.context.event("confirmation failed", structure_id=structure_id, error=report.error)
        self._place()

    def _is_due(self) -> bool:
        """Whether the best are to be chosen (again): the labels are spent, or there are ``every`` more."""
        have, settings = self.labelling.guided_labels, self.context.config.confirm
        if settings is None or have == self._chosen_at:
            return False
        if self.labelling.closing:
            return not self.labelling.under_way
        return settings.every is not None and have // settings.every > self._chosen_at // settings.every

    def _choose_starts(self) -> None:
        context, settings = self.context, self.context.config.confirm
        seeds = [use for use in self._uses(LabelRole.SEED) if use.spectral_distance is not None]
        with context.database.session() as session:
            densities = {
                use.structure_id: get_structure(session, use.structure_id).density_g_cm3 for use in seeds
            }
            stored = read_target(session, context.campaign_id, self._oracle.settings_hash)
        aligns = settings is None or settings.align
        self.target = stored if stored is not None and (stored.alignment is not None) == aligns else None
        self._is_placed = self.target is not None
        best = min(seeds, key=lambda use: use.spectral_distance or 0.0).structure_id
        self._starts = spread_over(densities, best, settings.starts if settings else 0)
        self._ask(self._starts)
        self._place()

    def _choose_best(self) -> None:
        settings, self._chosen_at = self.context.config.confirm, self.labelling.guided_labels
        guided = [use for use in self._uses(LabelRole.GUIDED) if use.spectral_distance is not None]
        guided.sort(key=lambda use: use.spectral_distance or 0.0)
        self._ask([use.structure_id for use in guided[: settings.best if settings else 0]])

    def _uses(self, role: LabelRole) -> list[UsedLabel]:
        with self.context.database.session() as session:
            return [use for use in label_uses(session, self.context.campaign_id) if use.role is role]

    @property
    def _oracle(self) -> Oracle:
        if self.context.confirming is None:
            raise RuntimeError("the campaign has no second oracle")
        return self.context.confirming

    def _ask(self, structure_ids: Sequence[int]) -> None:
        """Enter labels into the ledger; one that is there already is used as it is.

        One that failed for good in an earlier session is tried again: continuing the campaign is asking to.
        """
        new = [structure_id for structure_id in structure_ids if structure_id not in self._asked]
        if not new:
            return
        with self.context.database.session() as session:
            foresight = Foresight.of(session, self._oracle)
            expected = {key: foresight.expected(get_structure(session, key).numbers) for key in new}
        for structure_id in new:
            self._asked.add(structure_id)
            task = self._submit(structure_id)
            if task.state is TaskState.DONE:
                self._settle(structure_id)
                continue
            if task.state is TaskState.QUARANTINED:
                self.context.ledger.reopen(task.id)
            self._open[task.id] = structure_id
            self._queue.add(task.id, expected[structure_id])

    def _submit(self, structure_id: int) -> Task:
        context, settings_hash = self.context, self._oracle.settings_hash
        with context.database.session() as session:
            structure_hash = get_structure(session, structure_id).hash
        return context.ledger.submit(
            TaskKind.LABEL,
            task_identity(TaskKind.LABEL, structure_hash, settings_hash),
            {},
            campaign_id=context.campaign_id,
            structure_id=structure_id,
            settings_hash=settings_hash,
        )

    def _settle(self, structure_id: int) -> None:
        """The label's use, with its distance if the target is placed; idempotent."""
        context, oracle = self.context, self._oracle
        with context.database.begin() as session:
            label = get_label(session, structure_id, oracle.settings_hash)
            if label is None:
                raise RuntimeError(f"structure {structure_id} has no label of the second oracle")
            numbers = get_structure(session, structure_id).numbers
            mean = cell_mean(label.xanes, numbers, context.absorber, oracle.grid)
            distance = None if self.target is None else float(self.target.distance(mean))
            use_label(session, context.campaign_id, label.id, LabelRole.CONFIRM, distance)

    def _place(self) -> None:
        """Once its starting structures are labelled: put the target on this oracle's energies, and give distances."""
        if self._is_placed or self._starts is None or set(self._open.values()) & set(self._starts):
            return
        self._is_placed = True
        context, oracle = self.context, self._oracle
        with context.database.session() as session:
            labels = [
                label
                for _, label in used_labels(session, context.campaign_id, [LabelRole.CONFIRM])
                if label.settings_hash == oracle.settings_hash
            ]
            numbers = {label.id: get_structure(session, label.structure_id).numbers for label in labels}
        means = {
            label.id: cell_mean(label.xanes, numbers[label.id], context.absorber, oracle.grid)
            for label in labels
        }
        starts = [means[label.id] for label in labels if label.structure_id in self._starts]
        try:
            self.target = place_target(
                context.config, context.spectrum, oracle.grid, starts, context.absorber
            )
        except UserError as error:
            context.event(UNPLACED_EVENT, settings_hash=oracle.settings_hash, reason=str(error))
            return
        stored = {key: array.tolist() for key, array in self.target.to_arrays().items()}
        distances = {key: float(self.target.distance(mean)) for key, mean in means.items()}
        with context.database.begin() as session:
            add_event(
                session, context.campaign_id, TARGET_EVENT, {"settings_hash": oracle.settings_hash, **stored}
            )
            set_distances(session, context.campaign_id, distances)

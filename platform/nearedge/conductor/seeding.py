"""The first stage: starting structures, made by melt-quench or given by the user, and their labels."""

import statistics
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from nearedge.chance import seed_for, stratified
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.foresight import Foresight
from nearedge.conductor.tasks import TaskQueue
from nearedge.gate import EnergyReference
from nearedge.preflight import MIN_STARTING_STRUCTURES, alignment_window, group_of
from nearedge_agents.pool import Done, Work
from nearedge_agents.targets import store_target
from nearedge_db.errors import one_line
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Task
from nearedge_db.schema import TaskRow
from nearedge_db.states import LabelRole, StructureOrigin, TaskKind, TaskState
from nearedge_db.store import (
    add_event,
    get_label,
    get_structure,
    labelled_structures,
    link_structure,
    put_atoms,
    set_distances,
    use_label,
    used_labels,
)
from nearedge_services.spectra.align import align
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.spectra.target import Target
from nearedge_services.structures.coordination import coordination_fractions


@dataclass
class Seeding:
    """Makes and labels the starting structures; then fixes the target and what is known from them."""

    context: Context
    starting: list
    """The user's own structures, if any; then there is no melt-quench."""
    name: str = "starting structures"
    pool: str = "labeler"
    complete: bool = False
    _queue: TaskQueue = field(default_factory=TaskQueue)
    _tasks: dict[int, Task] = field(default_factory=dict)
    _role: dict[int, dict] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Starting structures asked for."""
        return len(self._tasks)

    def start(self) -> None:
        """Enter all tasks into the ledger; those done before are taken as they are.

        Those that failed for good are tried again: continuing the campaign is asking to.
        """
        tasks = self._own_structures() if self.starting else self._melt_quenches()
        with self.context.database.session() as session:
            foresight = Foresight.of(session, self.context.oracle)
        for task in tasks:
            self._tasks[task.id] = task
            if task.state is TaskState.DONE:
                self._settle(task)
                continue
            if task.state is TaskState.QUARANTINED:
                self.context.ledger.reopen(task.id)
            own = self.starting[self._role[task.id]["index"]] if self.starting else None
            self._queue.add(task.id, 0.0 if own is None else foresight.expected(own.numbers))
        self._finish_if_done()

    @property
    def backlog(self) -> int:
        """Starting structures that could be made now."""
        return self._queue.ready

    def offer(self) -> Work | None:
        """The next starting structure."""
        return self._queue.offer()

    def takes_over(self, work: Work) -> bool:
        """Of a task that it would offer."""
        return self._queue.take_over(work)

    def accept(self, done: Done) -> None:
        """Link what was made to the campaign; a starting structure that failed for good is left out."""
        report = self._queue.accept(done)
        if report is None:
            return
        if report.state is TaskState.DONE:
            self._settle(self.context.ledger.get(report.task_id))
        else:
            self.context.event("seed failed", task_id=report.task_id, error=report.error)
        self._finish_if_done()

    def _melt_quenches(self) -> list[Task]:
        config = self.context.config
        low, high = config.material.density_g_cm3
        tasks = []
        for index, place in enumerate(stratified(config.seeds.count, config.seed, "seed density")):
            payload = {
                "composition": config.material.composition,
                "density_g_cm3": round(low + (high - low) * place, 4),
                "seed": seed_for(config.seed, "seed", index),
                "settings": config.seeds.settings,
            }
            identity = task_identity(TaskKind.SEED, payload, self.context.settings_hash)
            tasks.append(self._submit(TaskKind.SEED, identity, payload))
            held_out = self._held_out(index, config.seeds.count)
            self._role[tasks[-1].id] = {"index": index, "held_out": held_out}
        return tasks

    def _own_structures(self) -> list[Task]:
        tasks = []
        groups = [group_of(atoms, index) for index, atoms in enumerate(self.starting)]
        places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        for index, atoms in enumerate(self.starting):
            with self.context.database.begin() as session:
                row = put_atoms(session, atoms, coordination_fractions(atoms))
            identity = task_identity(TaskKind.LABEL, row.hash, self.context.settings_hash)
            tasks.append(self._submit(TaskKind.LABEL, identity, {}, structure_id=row.id))
            group = groups[index]
            held_out = self._held_out(places[group], len(places))
            self._role[tasks[-1].id] = {"index": index, "held_out": held_out, "group": group}
        return tasks

    def _held_out(self, index: int, count: int) -> bool:
        """Every n-th of ``count``, one at least: the densities are in random order, so these cover the range."""
        period = min(max(2, round(1 / self.context.config.seeds.held_out_fraction)), count)
        return index % period == period - 1

    def _submit(self, kind: TaskKind, identity: str, payload: dict, structure_id: int | None = None) -> Task:
        return self.context.ledger.submit(
            kind,
            identity,
            payload,
            campaign_id=self.context.campaign_id,
            priority=10.0,
            structure_id=structure_id,
            settings_hash=self.context.settings_hash,
        )

    def _settle(self, task: Task) -> None:
        """Make the structures of a finished task part of the campaign, in one transaction; idempotent."""
        role, campaign_id = self._role[task.id], self.context.campaign_id
        group = role.get("group", f"seed-{role['index']}")
        with self.context.database.begin() as session:
            frames = task.payload.get("frames") or [self._own_frame(session, task)]
            for frame in frames:
                origin = StructureOrigin(frame["origin"])
                link_structure(
                    session,
                    campaign_id,
                    frame["structure_id"],
                    origin,
                    group,
                    seed=task.payload.get("seed"),
                    held_out=role["held_out"],
                )
                if origin is StructureOrigin.SEED:
                    use_label(session, campaign_id, frame["label_id"], LabelRole.SEED, None)

    def _own_frame(self, session: Session, task: Task) -> dict:
        """What a finished label task of a user's own structure made."""
        label = get_label(session, task.structure_id or 0, self.context.settings_hash)
        if label is None:
            raise RuntimeError(f"task {task.id} is DONE without a label")
        return {
            "structure_id": label.structure_id,
            "label_id": label.id,
            "origin": StructureOrigin.SEED.value,
        }

    def _finish_if_done(self) -> None:
        if self.complete or self._queue.unfinished:
            return
        with self.context.database.session() as session:
            seeds = labelled_structures(
                session, self.context.campaign_id, self.context.settings_hash, origins=(StructureOrigin.SEED,)
            )
            held_out = [
                atoms.info["structure_id"]
                for atoms in labelled_structures(
                    session, self.context.campaign_id, self.context.settings_hash, held_out=True
                )
            ]
        if len(seeds) < MIN_STARTING_STRUCTURES or not held_out:
            failed = len(self._tasks) - len(seeds)
            raise CampaignFailedError(
                f"only {len(seeds)} starting structures could be labelled ({failed} failed)"
                + ("" if held_out else " and none of those held out")
                + self._cause()
            )
        self._learn(seeds, self._fix_target())
        self.complete = True

    def _cause(self) -> str:
        """Why one of them failed, for all."""
        with self.context.database.session() as session:
            errors = session.scalars(
                select(TaskRow.last_error).where(
                    TaskRow.id.in_(self._tasks), TaskRow.state == TaskState.QUARANTINED
                )
            ).all()
        return f"; {one_line(errors[0] or '')}" if errors else ""

    def _fix_target(self) -> Target:
        """Align the target if asked to, and give the starting structures their distances."""
        context = self.context
        with context.database.session() as session:
            uses = used_labels(session, context.campaign_id, [LabelRole.SEED])
            numbers = {label.id: get_structure(session, label.structure_id).numbers for _, label in uses}
        means = {
            label.id: cell_mean(label.xanes, numbers[label.id], context.absorber, context.oracle.grid)
            for _, label in uses
        }
        if context.target is None:
            settings, grid = context.config.target, context.oracle.grid
            window = alignment_window(settings, grid)
            alignment, aligned = align(
                context.spectrum,
                [means[key] for key in sorted(means)],
                context.oracle.grid,
                pre_edge=settings.pre_edge_ev,
                window_ev=window,
            )
            context.target = Target.from_spectrum(
                aligned, context.oracle.grid, context.absorber, window, alignment
            )
        with context.database.begin() as session:
            store_target(session, context.campaign_id, context.target)
            distances = {key: float(context.target.distance(mean)) for key, mean in means.items()}
            set_distances(session, context.campaign_id, distances)
            add_event(session, context.campaign_id, "starting structures complete", {"count": len(means)})
        return context.target

    def _learn(self, seeds: list, target: Target) -> None:
        """Energies against density for the gate, fingerprints for novelty, and what Optuna can know already."""
        from nearedge_services.structures.composition import density_g_cm3
        from nearedge_services.structures.fingerprint import fingerprint

        context = self.context
        seeds = sorted(seeds, key=lambda atoms: atoms.info["structure_hash"])
        densities = np.array([density_g_cm3(atoms) for atoms in seeds])
        energies = np.array([atoms.info["REF_energy"] / len(atoms) for atoms in seeds])
        context.energy_reference = EnergyReference(densities, energies)
        for atoms in seeds:
            context.known.add(fingerprint(atoms))
        distances, outside = [], 0
        with context.database.begin() as session:
            for atoms, density in zip(seeds, densities, strict=True):
                mean = cell_mean(atoms.arrays["xanes"], atoms.numbers, context.absorber, context.oracle.grid)
                distances.append(float(target.distance(mean)))
                outside += not context.steering.add_measured(
                    atoms.info["structure_hash"],
                    {"density_g_cm3": float(density)},
                    distances[-1],
                    "starting structure",
                    session,
                )
        if outside:
            context.event("starting structures outside the searched range", count=outside)
        context.best_distance = min(context.best_distance, *distances)
        context.worst_distance = max(distances)
        context.event("seed distances", best=min(distances), median=statistics.median(distances))

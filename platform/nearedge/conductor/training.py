"""The training stage: the three models at first, and again when enough new labels have come."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from nearedge.chance import seed_for
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.dataset import Dataset
from nearedge.conductor.seeding import Seeding
from nearedge.conductor.tasks import TaskQueue
from nearedge.config import MODEL_KINDS, ModelName
from nearedge.starting import REFINING, StartingModel
from nearedge_agents.pool import Done, Work
from nearedge_db.errors import one_line
from nearedge_db.hashing import dataset_hash, task_identity
from nearedge_db.ledger import Standing, enter
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import find_model, list_models

NEVER = sys.maxsize
"""Labels that never come: only the end of a training makes another due."""


@dataclass
class Training:
    """Offers trainings; the trainers promote, this stage notices new champions."""

    context: Context
    seeding: Seeding
    name: str = "training"
    pool: str = "trainer"
    _queue: TaskQueue = field(default_factory=TaskQueue)
    _kind_of: dict[int, str] = field(default_factory=dict)
    _made: dict[int, tuple[str, dict[str, Any] | None]] = field(default_factory=dict)
    """Task -> folder of the model, and what it starts from where it is not trained here."""
    _frames_at: dict[str, int] = field(default_factory=dict)
    """Per kind, how many labelled structures its last training (finished or not) saw."""
    _refined: set[str] = field(default_factory=set)
    """Kinds whose first model was not trained here: it saw none of the campaign's structures."""
    ended: int = 0
    """Trainings of this session that ended well."""
    _look_at: int = 0
    """How many labels must have been settled before a training can be due that was not when it was last asked."""
    _due_then: tuple[tuple[int, list[str]], int] = ((-1, []), 0)
    """How many trainings were due at so many labels with those under way."""
    _read_at: int = -1
    """At how many settled labels the labelled structures were last read."""
    new_champions: list[str] = field(default_factory=list)
    """Kinds whose champion changed and that nobody has acted on yet."""

    def __post_init__(self) -> None:
        context = self.context
        self._dataset = Dataset(context.database, context.campaign_id, context.settings_hash)

    def start(self) -> None:
        """Take up unfinished trainings and the champions there are."""
        context = self.context
        context.refresh_champions()
        for task in context.ledger.open_tasks(context.campaign_id, TaskKind.TRAIN):
            self._remember(task.id, task.payload["model_kind"], task.payload)
            self._queue.add(task.id)
        with context.database.session() as session:
            for model in list_models(session, context.campaign_id):
                seen = model.n_train + model.n_held_out
                self._frames_at[model.kind] = max(self._frames_at.get(model.kind, 0), seen)
                if not model.n_train:
                    self._refined.add(model.kind)

    @property
    def under_way(self) -> list[str]:
        """Kinds that are queued or being trained."""
        return list(self._kind_of.values())

    @property
    def backlog(self) -> int:
        """Trainings that could begin now; without a trainer nobody asks for those that are due."""
        if not self.seeding.complete:
            return 0
        settled = self.context.labels_settled
        if settled < self._look_at:
            return self._queue.ready
        facts = (settled, self.under_way)
        if self._due_then[0] != facts:
            self._due_then = (facts, sum(labels <= 0 for labels in self._missing().values()))
        return self._queue.ready + self._due_then[1]

    def offer(self) -> Work | None:
        """Whatever training is due."""
        if not self.seeding.complete:
            return None
        if self.context.labels_settled >= self._look_at:
            self._look_at = self.context.labels_settled + self._submit_due()
        return self._queue.offer()

    def takes_over(self, work: Work) -> bool:
        """Of a task that it would offer."""
        return self._queue.take_over(work)

    def accept(self, done: Done) -> None:
        """Notice a new champion; a first training that fails ends the campaign, a later one does not."""
        report = self._queue.accept(done)
        if report is None:
            return
        kind = self._kind_of.pop(report.task_id)
        self._look_at = 0
        if report.trouble is not None:
            self.context.event("champions not linked", error=report.trouble)
        if report.state is TaskState.DONE:
            self.ended += 1
            self._tell(kind, *self._made.pop(report.task_id))
            self.new_champions.extend(self.context.refresh_champions())
            return
        self.context.event("training failed", kind=kind, error=report.error)
        if kind not in self.context.champions:
            first = "the {} to start from" if kind in self._refined else "the first training of the {}"
            raise CampaignFailedError(f"{first.format(kind)} failed: {one_line(report.error or '')}")

    def _tell(self, kind: str, folder: str, start: dict[str, Any] | None) -> None:
        """Record the model that is in this folder now."""
        context = self.context
        with context.database.session() as session:
            model = find_model(session, context.campaign_id, folder)
        facts = {"promoted": model.promoted_at is not None, **(start or {})}
        context.event("trained" if start is None else "started from", kind=kind, model_id=model.id, **facts)

    def _submit_due(self) -> int:
        """Submit what is due; returns how many further labels make the next one due, at least."""
        missing = self._missing()
        for kind, labels in missing.items():
            if labels <= 0:
                self._submit(kind, list(self._dataset.train), list(self._dataset.held_out))
        return min((labels for labels in missing.values() if labels > 0), default=NEVER)

    def _missing(self) -> dict[ModelName, int]:
        """Kind -> labels that are missing until it is to be trained."""
        asked = [kind for kind in MODEL_KINDS if kind not in self._kind_of.values() and self._is_due(kind)]
        if not asked:
            return {}
        data = self._data()
        return {kind: self._missing_for(kind, len(data), data.starting) for kind in asked}

    def _is_due(self, kind: str) -> bool:
        """Cheap look: never trained, or trained again at all in this campaign."""
        return kind not in self._frames_at or kind in self.context.config.models.retrain_every

    def _missing_for(self, kind: ModelName, frames: int, starting: int) -> int:
        """Labels still missing since the last training for the next; the starting structures are not new."""
        seen = self._frames_at.get(kind)
        if seen is None:
            return 0
        return self.context.config.models.retrain_every[kind] - (frames - max(seen, starting))

    def _data(self) -> Dataset:
        """What there is to learn from now."""
        if self._read_at != self.context.labels_settled:
            self._dataset.read()
            self._read_at = self.context.labels_settled
        return self._dataset

    def _submit(self, kind: str, train: list[str], held_out: list[str]) -> None:
        """Enter the next model of a kind: given at first where there is one, else trained."""
        given = None if kind in self.context.champions else self.context.start.models.get(kind)
        if given is None:
            self._submit_training(kind, train, held_out)
        else:
            self._submit_given(kind, given, held_out)

    def _submit_training(self, kind: str, train: list[str], held_out: list[str]) -> None:
        context, models = self.context, self.context.config.models
        champion = context.champions.get(kind)
        settings = dict(getattr(models, kind))
        if champion is not None:
            gentle = REFINING[kind] if kind in self._refined else {}
            settings = {**gentle, **settings, **models.retrain.get(kind, {})}
        elif kind in context.start.from_nothing:
            context.event("trained from nothing", kind=kind, reason=context.start.from_nothing[kind])
        payload = {
            "train": train,
            "settings": settings,
            "parent_model_id": None if champion is None else champion.model_id,
        }
        self._enter(kind, payload, held_out, settings)

    def _submit_given(self, kind: str, given: StartingModel, held_out: list[str]) -> None:
        """Nothing is trained: the model is judged on the held-out structures, registered and crowned."""
        self.context.database.settle()  # nobody waits while files are copied
        given.copy_to(self.context.run_dir / self._folder(kind, self._sequence(kind)))
        start = {"start": given.origin, "weights": given.weights}
        payload: dict[str, Any] = {"train": [], "settings": {}, "parent_model_id": None, "start": start}
        self._enter(kind, payload, held_out, start)

    def _enter(self, kind: str, part: dict[str, Any], held_out: list[str], settings: dict[str, Any]) -> None:
        """Make it a task of the ledger, whose identity the data and ``settings`` decide."""
        context, sequence = self.context, self._sequence(kind)
        data = dataset_hash([*part["train"], *(f"held out {key}" for key in held_out)], context.settings_hash)
        payload = {
            "model_kind": kind,
            "campaign": context.config.name,
            "held_out": held_out,
            "seed": seed_for(context.config.seed, "train", kind, sequence),
            "dataset_hash": data,
            "folder": str(self._folder(kind, sequence)),
            **part,
        }
        identity = task_identity(TaskKind.TRAIN, context.campaign_id, kind, sequence, data, settings)

        def work(session: Session) -> Standing:
            columns = {"settings_hash": context.settings_hash}
            return enter(session, TaskKind.TRAIN, identity, payload, context.campaign_id, **columns)

        task = context.database.run(work, synced=False)
        if task.state is TaskState.QUARANTINED:
            # Failed for good in an earlier session: continuing the campaign is asking to try again.
            context.ledger.reopen(task.id)
        self._remember(task.id, kind, payload)
        self._queue.add(task.id)

    def _remember(self, task_id: int, kind: str, payload: dict) -> None:
        self._kind_of[task_id] = kind
        self._made[task_id] = payload["folder"], payload.get("start")
        self._frames_at[kind] = len(payload["train"]) + len(payload["held_out"])
        if "start" in payload:
            self._refined.add(kind)

    def _folder(self, kind: str, sequence: int) -> Path:
        """Relative to the run directory, which may move."""
        return Path("models", kind, f"{sequence:03d}")

    def _sequence(self, kind: str) -> int:
        with self.context.database.session() as session:
            return len(list_models(session, self.context.campaign_id, kind))

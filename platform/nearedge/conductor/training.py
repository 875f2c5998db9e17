"""The training stage: the three models at first, and again when enough new labels have come."""

from dataclasses import dataclass, field

from nearedge.chance import seed_for
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.seeding import Seeding
from nearedge.conductor.tasks import TaskQueue
from nearedge.config import MODEL_KINDS, ModelName
from nearedge_agents.pool import Done, Work
from nearedge_db.hashing import dataset_hash, task_identity
from nearedge_db.states import StructureOrigin, TaskKind, TaskState
from nearedge_db.store import labelled_hashes, list_models


@dataclass
class Training:
    """Offers trainings; the trainers record and promote, this stage notices new champions."""

    context: Context
    seeding: Seeding
    name: str = "training"
    pool: str = "trainer"
    _queue: TaskQueue = field(default_factory=TaskQueue)
    _kind_of: dict[int, str] = field(default_factory=dict)
    _frames_at: dict[str, int] = field(default_factory=dict)
    """Per kind, how many labelled structures its last training (finished or not) saw."""
    _registry: str = "closed"
    _looked_at: int = -1
    """How many labels there were when it was last asked whether a training is due."""
    new_champions: list[str] = field(default_factory=list)
    """Kinds whose champion changed and that nobody has acted on yet."""

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

    @property
    def under_way(self) -> list[str]:
        """Kinds that are queued or being trained."""
        return list(self._kind_of.values())

    def offer(self) -> Work | None:
        """Open the registry once; then whatever training is due."""
        if self._registry == "closed":
            self._registry = "opening"
            return Work("open_registry", (self.context.campaign_id,), tag="registry")
        if self._registry != "open" or not self.seeding.complete:
            return None
        if self._looked_at != self.context.labels_settled:
            self._looked_at = self.context.labels_settled
            self._submit_due()
        return self._queue.offer()

    def accept(self, done: Done) -> None:
        """Notice a new champion; a first training that fails ends the campaign, a later one does not."""
        if done.work.tag == "registry":
            if done.lost:
                self._registry = "closed"
                return
            if done.error is not None:
                raise CampaignFailedError(f"the MLflow store cannot be opened: {done.error}")
            self._registry = "open"
            return
        report = self._queue.accept(done)
        if report is None:
            return
        kind = self._kind_of.pop(report.task_id)
        self._looked_at = -1
        if report.state is TaskState.DONE:
            payload = self.context.ledger.get(report.task_id).payload
            self.context.event(
                "trained", kind=kind, model_id=payload["model_id"], promoted=payload["promoted"]
            )
            self.new_champions.extend(self.context.refresh_champions())
            return
        self.context.event("training failed", kind=kind, error=report.error)
        if kind not in self.context.champions:
            raise CampaignFailedError(f"the first training of the {kind} failed: {report.error}")

    def _submit_due(self) -> None:
        due = [kind for kind in MODEL_KINDS if kind not in self._kind_of.values() and self._is_due(kind)]
        if not due:
            return
        train, held_out = self._data()
        for kind in due:
            if self._trigger(kind, len(train) + len(held_out)):
                self._submit(kind, train, held_out)

    def _is_due(self, kind: str) -> bool:
        """Cheap look: never trained, or trained again at all in this campaign."""
        return kind not in self._frames_at or kind in self.context.config.models.retrain_every

    def _trigger(self, kind: ModelName, frames: int) -> bool:
        seen = self._frames_at.get(kind)
        return seen is None or frames - seen >= self.context.config.models.retrain_every[kind]

    def _data(self) -> tuple[list[str], list[str]]:
        """Hashes of the labelled structures: to train on, and held out.

        Rattled frames are for learning only: models are judged on networks that could exist.
        """
        with self.context.database.session() as session:
            rows = labelled_hashes(session, self.context.campaign_id, self.context.settings_hash)
        train = [key for key, held_out, _ in rows if not held_out]
        held_out = [
            key for key, apart, origin in rows if apart and origin is not StructureOrigin.SEED_RATTLED
        ]
        return train, held_out

    def _submit(self, kind: str, train: list[str], held_out: list[str]) -> None:
        context, models = self.context, self.context.config.models
        champion = context.champions.get(kind)
        sequence = self._sequence(kind)
        settings = dict(getattr(models, kind))
        if champion is not None:
            settings |= models.retrain.get(kind, {})
        data = dataset_hash([*train, *(f"held out {key}" for key in held_out)], context.settings_hash)
        payload = {
            "model_kind": kind,
            "campaign": context.config.name,
            "train": train,
            "held_out": held_out,
            "settings": settings,
            "seed": seed_for(context.config.seed, "train", kind, sequence),
            "parent_model_id": None if champion is None else champion.model_id,
            "dataset_hash": data,
            "folder": str((context.run_dir / "models" / kind / f"{sequence:03d}").absolute()),
        }
        identity = task_identity(TaskKind.TRAIN, context.campaign_id, kind, sequence, data, settings)
        task = context.ledger.submit(
            TaskKind.TRAIN,
            identity,
            payload,
            campaign_id=context.campaign_id,
            settings_hash=context.settings_hash,
        )
        if task.state is TaskState.QUARANTINED:
            # Failed for good in an earlier session: continuing the campaign is asking to try again.
            context.ledger.reopen(task.id)
        self._remember(task.id, kind, payload)
        self._queue.add(task.id)

    def _remember(self, task_id: int, kind: str, payload: dict) -> None:
        self._kind_of[task_id] = kind
        self._frames_at[kind] = len(payload["train"]) + len(payload["held_out"])

    def _sequence(self, kind: str) -> int:
        with self.context.database.session() as session:
            return len(list_models(session, self.context.campaign_id, kind))

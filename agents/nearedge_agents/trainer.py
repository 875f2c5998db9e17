"""The actor that trains models, records them in MLflow, and crowns the better one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_agents.champions import show_champions
from nearedge_agents.kinds import Kind, make_kind
from nearedge_agents.worker import LedgerWorker, Write
from nearedge_db.ledger import Task
from nearedge_db.schema import TaskRow
from nearedge_db.store import add_model, get_model, labelled_structures, promote
from nearedge_services.potential.errors import PotentialError
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.model_registry import ModelRegistry, RegisteredModel


class TrainingDivergedError(ArithmeticError):
    """A training ended in numbers that are not finite."""

    retryable = False


class TrackingError(RuntimeError):
    """MLflow did not take the record of a training."""

    retryable = True


@dataclass(frozen=True)
class Trained:
    """A trained model on disk with its held-out metrics, and whether it beats its parent on the same structures."""

    folder: Path
    metrics: dict[str, float]
    better: bool


class Trainer(LedgerWorker):
    """Works on ``train`` tasks."""

    failures = (TrainingDivergedError, TrackingError, OSError)

    def __init__(self, url: str, tracking_uri: str, experiment: str) -> None:
        super().__init__(url)
        self.tracking_uri = tracking_uri
        self.experiment = experiment

    def open_registry(self, campaign_id: int) -> None:
        """Create the MLflow store and the experiment; done once, before several trainers use them at a time.

        Champions that an earlier session crowned without showing them are shown now.
        """
        self._registry().open()
        show_champions(self.database, campaign_id, self._registry())

    def settled(self, task: Task) -> None:
        """The model's row is written: show whoever is champion now."""
        show_champions(self.database, task.campaign_id or 0, self._registry())

    def result(self, task: Task) -> Write:
        """Train, judge against the parent, save, record; the returned function adds the model row."""
        payload = task.payload
        kind = make_kind(payload["model_kind"])
        train, held_out = self._data(task)
        trained = self._train(kind, payload, train, held_out)
        registered = self._record(kind, payload, trained)

        def write(session: Session, done: Task) -> None:
            model = add_model(
                session,
                done.campaign_id or 0,
                kind.name,
                dataset_hash=payload["dataset_hash"],
                n_train=len(train),
                n_held_out=len(held_out),
                metrics=trained.metrics,
                folder=str(trained.folder),
                seed=payload["seed"],
                parent_id=payload["parent_model_id"],
                mlflow_run_id=registered.run_id,
                registered_name=registered.name,
                registered_version=registered.version,
            )
            if trained.better:
                promote(session, model.id)
            row = session.get_one(TaskRow, done.id)
            row.payload_json = {**payload, "model_id": model.id, "promoted": trained.better}

        return write

    def _train(
        self, kind: Kind, payload: dict[str, Any], train: list[Atoms], held_out: list[Atoms]
    ) -> Trained:
        parent = None
        if payload["parent_model_id"] is not None:
            with self.database.session() as session:
                parent = kind.load(Path(get_model(session, payload["parent_model_id"]).folder))
        settings = kind.settings(**payload["settings"])
        try:
            model, metrics = kind.train(train, held_out, settings, payload["seed"], initial=parent)
        except (FloatingPointError, PotentialError) as error:
            raise TrainingDivergedError(str(error)) from error
        metrics = {name: float(value) for name, value in metrics.items()}
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            raise TrainingDivergedError(f"not finite: {', '.join(broken)}")
        better = True
        if parent is not None:
            before = float(kind.evaluate(parent, held_out)[kind.headline])
            metrics[f"parent_{kind.headline}"] = before
            better = metrics[kind.headline] < before
        folder = Path(payload["folder"])
        model.save(folder)
        return Trained(folder, metrics, better)

    def _record(self, kind: Kind, payload: dict[str, Any], trained: Trained) -> RegisteredModel:
        try:
            return self._registry().record_training(
                kind.name,
                trained.folder,
                parameters={**payload["settings"], "seed": payload["seed"]},
                metrics=trained.metrics,
                dataset_hash=payload["dataset_hash"],
                tags={"campaign": payload["campaign"], "parent_model": str(payload["parent_model_id"])},
            )
        except mlflow_module().exceptions.MlflowException as error:
            raise TrackingError(str(error)) from error

    def _data(self, task: Task) -> tuple[list[Atoms], list[Atoms]]:
        """Training and held-out structures of the task, in an order that does not depend on when they were labelled."""
        with self.database.session() as session:
            frames = labelled_structures(session, task.campaign_id or 0, task.settings_hash or "")
        by_hash = {frame.info["structure_hash"]: frame for frame in frames}
        wanted = (task.payload["train"], task.payload["held_out"])
        train, held_out = ([by_hash[key] for key in sorted(keys)] for keys in wanted)
        return train, held_out

    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self.tracking_uri, self.experiment)

"""The actor that trains models, records them in MLflow, and crowns the better one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_agents.champions import campaign_tags, show_champions, tidy
from nearedge_agents.kinds import Kind, make_kind
from nearedge_agents.sizes import fixed_settings
from nearedge_agents.worker import LedgerWorker, Write
from nearedge_db.errors import UserError, one_line
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


class StartingModelError(RuntimeError):
    """The model that a campaign was to start from cannot be used."""

    retryable = False


@dataclass(frozen=True)
class Trained:
    """A trained model on disk with its held-out metrics, and whether it beats its parent on the same structures."""

    folder: Path
    settings: dict[str, Any]
    """Those of the training that were given, and those that the weights it started from fixed."""
    metrics: dict[str, float]
    better: bool


class Trainer(LedgerWorker):
    """Works on ``train`` tasks."""

    failures = (TrainingDivergedError, StartingModelError, TrackingError, OSError)

    def __init__(self, url: str, tracking_uri: str, experiment: str, run_dir: Path) -> None:
        """``run_dir`` is where this session has the run directory; folders of models are relative to it."""
        super().__init__(url)
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_dir = run_dir

    def open_registry(self, campaign_id: int) -> None:
        """Create the MLflow store and the experiment; done once, before several trainers use them at a time.

        What an earlier session left open is closed, and champions that it crowned without showing them are shown.
        """
        self._registry().open()
        tidy(self.database, campaign_id, self._registry(), self.run_dir)

    def settled(self, task: Task) -> str | None:
        """The model's row is written: show whoever is champion now, if MLflow lets us."""
        return self.show_champions(task.campaign_id or 0)

    def show_champions(self, campaign_id: int) -> str | None:
        """Let MLflow and the links name the champions; returns what went wrong."""
        try:
            show_champions(self.database, campaign_id, self._registry(), self.run_dir)
        except (mlflow_module().exceptions.MlflowException, OSError) as error:
            return f"{type(error).__name__}: {one_line(error)}"
        return None

    def result(self, task: Task) -> Write:
        """Train, judge against the parent, save, record; the returned function adds the model row.

        A task with ``start`` is not trained: the model is in its folder already.
        """
        payload = task.payload
        kind = make_kind(payload["model_kind"])
        train, held_out = self._data(task)
        trained = (
            self._adopt(kind, payload, held_out)
            if "start" in payload
            else self._train(kind, payload, train, held_out)
        )
        registered = self._record(kind, task, trained, {"n_train": len(train), "n_held_out": len(held_out)})

        def write(session: Session, done: Task) -> None:
            model = add_model(
                session,
                done.campaign_id or 0,
                kind.name,
                dataset_hash=payload["dataset_hash"],
                n_train=len(train),
                n_held_out=len(held_out),
                metrics=trained.metrics,
                folder=payload["folder"],
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
        parent, given = None, dict(payload["settings"])
        if payload["parent_model_id"] is not None:
            with self.database.session() as session:
                of_parent = self.run_dir / get_model(session, payload["parent_model_id"]).folder
            parent = kind.load(of_parent)
            given |= fixed_settings(kind.name, of_parent)
        try:
            model, metrics = kind.train(
                train, held_out, kind.settings(**given), payload["seed"], initial=parent
            )
        except (FloatingPointError, PotentialError) as error:
            raise TrainingDivergedError(str(error)) from error
        metrics = _finite(metrics)
        better = True
        if parent is not None:
            before = float(kind.evaluate(parent, held_out)[kind.headline])
            metrics[f"parent_{kind.headline}"] = before
            better = metrics[kind.headline] < before
        folder = self.run_dir / payload["folder"]
        model.save(folder)
        return Trained(folder, given, metrics, better)

    def _adopt(self, kind: Kind, payload: dict[str, Any], held_out: list[Atoms]) -> Trained:
        """The model that was put into the folder, judged on the held-out structures."""
        folder = self.run_dir / payload["folder"]
        try:
            metrics = _finite(kind.evaluate(kind.load(folder), held_out))
            return Trained(folder, fixed_settings(kind.name, folder), metrics, better=True)
        except UserError as error:
            raise StartingModelError(str(error)) from error

    def _record(self, kind: Kind, task: Task, trained: Trained, sizes: dict[str, int]) -> RegisteredModel:
        """An MLflow run; its parameters are all settings of the training, those left at their defaults too."""
        payload, settings = task.payload, trained.settings
        if "start" not in payload:
            settings = kind.settings(**settings).model_dump(mode="json")
        try:
            return self._registry().record_training(
                kind.name,
                trained.folder,
                parameters={**settings, **sizes, "seed": payload["seed"]},
                metrics=trained.metrics,
                dataset_hash=payload["dataset_hash"],
                tags={
                    "campaign": payload["campaign"],
                    "parent_model": str(payload["parent_model_id"]),
                    **payload.get("start", {}),
                    **campaign_tags(self.database, task.campaign_id or 0),
                },
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


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics as plain numbers. Raises TrainingDivergedError when one is not finite."""
    metrics = {name: float(value) for name, value in metrics.items()}
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDivergedError(f"not finite: {', '.join(broken)}")
    return metrics

"""The actor that trains models, crowns the better one, and tells MLflow of them."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_agents.champions import campaign_tags, link_champions
from nearedge_agents.device import own_device
from nearedge_agents.kinds import Kind, make_kind
from nearedge_agents.sizes import fixed_settings
from nearedge_agents.tracking import Patiently, Sender, TrackingReport, content_of, enter_tracking
from nearedge_agents.worker import LedgerWorker, Write
from nearedge_db.errors import UserError, one_line
from nearedge_db.ledger import Task
from nearedge_db.schema import TaskRow
from nearedge_db.store import add_model, champion, get_model, labelled_structures, promote
from nearedge_db.types import utc_now
from nearedge_services.potential.errors import PotentialError


class TrainingDivergedError(ArithmeticError):
    """A training ended in numbers that are not finite."""

    retryable = False


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

    failures = (TrainingDivergedError, StartingModelError, OSError)

    def __init__(self, url: str, tracking_uri: str, experiment: str, run_dir: Path) -> None:
        """``run_dir`` is where this session has the run directory; folders of models are relative to it."""
        super().__init__(url)
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_dir = run_dir
        self._patiently = Patiently()
        self._device = own_device()

    def track(self, campaign_id: int, opening: bool) -> TrackingReport:
        """Send MLflow the trainings that it does not have; ``opening`` makes the store and puts it in order first.

        Only one trainer at a time may be asked. One that MLflow keeps waiting comes back for other work.
        """
        sender = Sender(self.database, campaign_id, self.tracking_uri, self.experiment, self.run_dir)
        return self._patiently.run(lambda: sender.send(opening=opening))

    def settled(self, task: Task) -> str | None:
        """The model's row is written: let the links name whoever is champion now."""
        try:
            link_champions(self.database, task.campaign_id or 0, self.run_dir)
        except OSError as error:
            return f"{type(error).__name__}: {one_line(error)}"
        return None

    def result(self, task: Task) -> Write:
        """Train, judge against the parent, save; the returned function adds the model row and what MLflow is to know.

        A task with ``start`` is not trained: the model is in its folder already.
        """
        payload = task.payload
        kind, started = make_kind(payload["model_kind"]), utc_now()
        train, held_out = self._data(task)
        trained = (
            self._adopt(kind, payload, held_out)
            if "start" in payload
            else self._train(kind, payload, train, held_out)
        )
        record = self._record(kind, task, trained, {"n_train": len(train), "n_held_out": len(held_out)})
        record |= {"started_at": started.isoformat(), "finished_at": utc_now().isoformat()}

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
            )
            enter_tracking(session, model, record)
            # one that was chosen by hand meanwhile is not deposed by a model that was never compared with it
            present = champion(session, model.campaign_id, kind.name)
            crowned = trained.better and (None if present is None else present.id) == model.parent_id
            if crowned:
                promote(session, model.id)
            row = session.get_one(TaskRow, done.id)
            row.payload_json = {**payload, "model_id": model.id, "promoted": crowned}

        return write

    def _train(
        self, kind: Kind, payload: dict[str, Any], train: list[Atoms], held_out: list[Atoms]
    ) -> Trained:
        parent, given = None, dict(payload["settings"])
        if payload["parent_model_id"] is not None:
            with self.database.session() as session:
                of_parent = self.run_dir / get_model(session, payload["parent_model_id"]).folder
            parent = kind.load(of_parent).to(self._device)
            given |= fixed_settings(kind.name, of_parent)
        try:
            model, metrics = kind.train(
                train,
                held_out,
                kind.settings(**given),
                payload["seed"],
                initial=parent,
                device=self._device,
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
            metrics = _finite(kind.evaluate(kind.load(folder).to(self._device), held_out))
            return Trained(folder, fixed_settings(kind.name, folder), metrics, better=True)
        except UserError as error:
            raise StartingModelError(str(error)) from error

    def _record(self, kind: Kind, task: Task, trained: Trained, sizes: dict[str, int]) -> dict[str, Any]:
        """What MLflow is to know: as parameters all settings of the training, those left at their defaults too."""
        payload, settings = task.payload, trained.settings
        if "start" not in payload:
            settings = kind.settings(**settings).model_dump(mode="json")
        tags = campaign_tags(self.database, task.campaign_id or 0)
        return {
            "parameters": {**settings, **sizes, "seed": payload["seed"]},
            "tags": {
                "campaign": payload["campaign"],
                "parent_model": str(payload["parent_model_id"]),
                **payload.get("start", {}),
                **tags,
            },
            "content": content_of(
                trained.folder, tags, kind.name, payload["folder"], payload["dataset_hash"]
            ),
        }

    def _data(self, task: Task) -> tuple[list[Atoms], list[Atoms]]:
        """Training and held-out structures of the task, in an order that does not depend on when they were labelled."""
        with self.database.session() as session:
            frames = labelled_structures(session, task.campaign_id or 0, task.settings_hash or "")
        by_hash = {frame.info["structure_hash"]: frame for frame in frames}
        wanted = (task.payload["train"], task.payload["held_out"])
        train, held_out = ([by_hash[key] for key in sorted(keys)] for keys in wanted)
        return train, held_out


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics as plain numbers. Raises TrainingDivergedError when one is not finite."""
    metrics = {name: float(value) for name, value in metrics.items()}
    broken = [name for name, value in metrics.items() if not math.isfinite(value)]
    if broken:
        raise TrainingDivergedError(f"not finite: {', '.join(broken)}")
    return metrics

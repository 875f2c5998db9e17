"""Trainings on their way to MLflow: entered with the model's row, sent when MLflow takes them, each of them once.

The record is a task of the ledger: whatever dies, MLflow included, it waits there, and one process at a time sends it.
"""

import hashlib
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nearedge_agents.champions import campaign_tags, show_champions
from nearedge_db.database import Database
from nearedge_db.errors import UserError, one_line
from nearedge_db.hashing import content_hash, task_identity
from nearedge_db.keepalive import keep_alive
from nearedge_db.ledger import Ledger, Task, enter
from nearedge_db.schema import ModelRow, TaskRow
from nearedge_db.states import TaskKind, TaskState
from nearedge_db.store import count_unsent, get_model, set_registered
from nearedge_services.registry.model_registry import ModelRegistry
from nearedge_services.registry.reachable import bound_requests, check_store

LEASE_S = 20.0
"""A sender that was killed is succeeded after this time at most."""

PATIENCE_S = 30.0
"""How long one attempt to send may hold up whoever asked for it; a store that hangs is left to hang by itself."""

ENDLESS = 1_000_000
"""Attempts: a record is kept until MLflow takes it."""


@dataclass(frozen=True)
class TrackingReport:
    """How the trainings of a campaign stand with MLflow after an attempt to send them."""

    sent: int = 0
    unsent: int = 0
    trouble: str | None = None
    """Why something was not sent, or a champion not shown; in one line."""


def content_of(folder: Path, *facts: Any) -> str:
    """Identity of a training: the files of its model, and JSON-able facts about it."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return content_hash([files, *facts])


def enter_tracking(session: Session, model: ModelRow, record: dict[str, Any]) -> None:
    """Keep what MLflow is to know of a model, in the transaction that adds the model's row.

    ``record`` has ``parameters``, ``tags``, ``content``, ``started_at`` and ``finished_at`` (ISO, UTC); the rest is
    in the row and in its folder.
    """
    enter(
        session,
        TaskKind.TRACK,
        task_identity(TaskKind.TRACK, model.campaign_id, model.id),
        {"model_id": model.id, **record},
        model.campaign_id,
        max_attempts=ENDLESS,
    )


@dataclass
class Sender:
    """Sends the trainings of one campaign; ``run_dir`` is where its models' folders are."""

    database: Database
    campaign_id: int
    tracking_uri: str
    experiment: str
    run_dir: Path
    owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}")
    _trouble: str | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.database)

    def send(self, *, opening: bool = False) -> TrackingReport:
        """Send what is not sent yet, oldest first, and let the alias follow the champions.

        ``opening`` makes the store, puts in order what an earlier session left in it, and tries again what could not
        be recorded.
        """
        registry = self._told(self._open, opening)
        if opening:
            self._reopen()
        sent = 0 if registry is None else self._send_all(registry)
        with self.database.session() as session:
            return TrackingReport(sent, count_unsent(session, self.campaign_id), self._trouble)

    def _open(self, opening: bool) -> ModelRegistry:
        bound_requests()
        check_store(self.tracking_uri)
        registry = ModelRegistry(self.tracking_uri, self.experiment)
        if opening:
            tags = campaign_tags(self.database, self.campaign_id)
            registry.open()
            registry.close_abandoned(tags)
            registry.drop_duplicates(tags)
        return registry

    def _reopen(self) -> None:
        with self.database.session() as session:
            given_up = session.scalars(
                select(TaskRow.id).where(
                    TaskRow.campaign_id == self.campaign_id,
                    TaskRow.kind == TaskKind.TRACK.value,
                    TaskRow.state == TaskState.QUARANTINED,
                )
            ).all()
        for task_id in given_up:
            self.ledger.reopen(task_id)

    def _send_all(self, registry: ModelRegistry) -> int:
        """How many were sent; the champions are shown unless the store has gone."""
        sent = 0
        for task in self.ledger.open_tasks(self.campaign_id, TaskKind.TRACK):
            done = self._send_one(registry, task)
            if done is None:
                return sent
            sent += done
        self._told(show_champions, self.database, self.campaign_id, registry)
        return sent

    def _told(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the call returns; None and a note of the first trouble where it raises."""
        try:
            return call(*arguments)
        except Exception as error:  # noqa: BLE001 - stores of artifacts raise errors of their own libraries
            self._trouble = self._trouble or _line(error)
            return None

    def _send_one(self, registry: ModelRegistry, task: Task) -> int | None:
        """How many were sent, 0 or 1; None when there is no use in going on."""
        leased = self.ledger.lease(self.owner, task_id=task.id, seconds=LEASE_S)
        if leased is None:
            return 0  # another process is sending it
        try:
            with keep_alive(self.ledger, leased, LEASE_S):
                model = registry.record_training(**self._record(leased))
        except Exception as error:  # noqa: BLE001 - stores of artifacts raise errors of their own libraries
            self._trouble = self._trouble or _line(error)
            # what is wrong with the model itself stays wrong: it does not keep the next from being sent
            self.ledger.fail(leased.id, self.owner, _line(error), retryable=not isinstance(error, UserError))
            return 0 if self._told(_answers, self.tracking_uri) else None

        def write(session: Session, done: Task) -> None:
            set_registered(session, done.payload["model_id"], model.run_id, model.name, model.version)

        return int(self.ledger.complete(leased.id, self.owner, write, 0.0))

    def _record(self, task: Task) -> dict[str, Any]:
        payload = task.payload
        with self.database.session() as session:
            row = get_model(session, payload["model_id"])
        started, finished = (datetime.fromisoformat(payload[key]) for key in ("started_at", "finished_at"))
        return {
            "kind": row.kind,
            "model_folder": self.run_dir / row.folder,
            "parameters": payload["parameters"],
            "metrics": row.metrics_json,
            "dataset_hash": row.dataset_hash,
            "tags": {**payload["tags"], **campaign_tags(self.database, self.campaign_id)},
            "content": payload["content"],
            "span": (started, finished),
        }


def _answers(tracking_uri: str) -> bool:
    check_store(tracking_uri)
    return True


def _line(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"


class Patiently:
    """Runs a call in a thread of its own and waits a bounded time for it: nobody can make MLflow's client give up."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._result: TrackingReport | Exception | None = None

    def run(self, call: Callable[[], TrackingReport], seconds: float = PATIENCE_S) -> TrackingReport:
        """What ``call`` returns or raises; a report of trouble when it, or the one before it, takes longer."""
        if self._thread is None or not self._thread.is_alive():
            self._result = None
            self._thread = threading.Thread(target=self._work, args=(call,), name="tracking", daemon=True)
            self._thread.start()
        self._thread.join(seconds)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result or TrackingReport(trouble=f"MLflow has not answered within {seconds:g} s")

    def _work(self, call: Callable[[], TrackingReport]) -> None:
        try:
            self._result = call()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._result = error

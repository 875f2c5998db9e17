"""Trainings as MLflow runs, models as registered versions, and the alias that says which one is used."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.registry.kinds import registered_name
from nearedge_services.registry.local_store import artifacts_beside, create_local_store, follow_move
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.packaging import MODEL_ARTIFACT
from nearedge_services.registry.recording import (
    CONTENT_TAG,
    MODEL_PATH,
    TrainingRecord,
    exists,
    only_one,
    record,
    runs_with,
)

CHAMPION = "champion"
_HISTORY_TAG = "nearedge.champion_history"


@dataclass(frozen=True)
class RegisteredModel:
    """What a recorded training became: the MLflow run, the registered name and its version (1, 2, …)."""

    run_id: str
    name: str
    version: int


@dataclass(frozen=True)
class ModelVersion:
    """One registered version, with the metrics of its training and its tags."""

    kind: str
    version: int
    run_id: str
    created_at: datetime
    is_champion: bool
    metrics: dict[str, float]
    tags: dict[str, str]


class ModelRegistry:
    """Records trainings and keeps track of the champion of every kind.

    Holds its own client and never touches MLflow's global tracking URI or active run.

    Example:
        registry = ModelRegistry("sqlite:///runs/mlflow.db", "carbon")
        model = registry.record_training("potential", folder, {"steps": 800}, {"force_rmse_ev_per_a": 0.4},
        "ab12") registry.promote("potential", model.version)
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_location: str | None = None) -> None:
        """Artifacts go to `artifact_location`, by default the folder `mlflow-artifacts` beside a local
        SQLite store.
        """
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.artifact_location = artifact_location or artifacts_beside(tracking_uri)
        # making a client makes the store: a local one must be whole before
        create_local_store(tracking_uri)
        follow_move(tracking_uri)
        self._client = mlflow_module().MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def open(self) -> str:
        """Create the store and the experiment if they are not there; returns the experiment's id.

        A local store appears whole or not at all, whenever this is interrupted.
        """
        return self._experiment_id()

    def record_training(
        self,
        kind: str,
        model_folder: str | Path,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset_hash: str,
        *,
        artifacts: Sequence[str | Path] = (),
        tags: Mapping[str, str] | None = None,
        content: str | None = None,
        span: tuple[datetime, datetime] | None = None,
    ) -> RegisteredModel:
        """One finished training as a run with a registered model version; the champion does not change.

        `model_folder` is what the model's `save` wrote; `artifacts` are further files or folders to keep. With
        `content`, the identity of the training, a second call finds what the first one made, or completes it.
        `span` is when it began and ended. Metrics that are not finite are refused with UserError, as is an unknown
        kind. A folder that is refused marks the run FAILED.
        """
        training = TrainingRecord(
            kind,
            Path(model_folder),
            parameters,
            metrics,
            dataset_hash,
            content=content,
            artifacts=artifacts,
            tags=tags or {},
            span=span,
        )
        run_id, version = record(self._client, self._experiment_id(), training)
        return RegisteredModel(run_id, registered_name(kind), version)

    def drop_duplicates(self, tags: Mapping[str, str]) -> int:
        """Delete all but one run of every training of the experiment with these tags; how many there were.

        There is a second one where MLflow carried a request out whose answer never came.
        """
        found = self._client.get_experiment_by_name(self.experiment)
        trainings: dict[str, list[Any]] = {}
        for run in runs_with(self._client, found.experiment_id, tags) if found is not None else []:
            if CONTENT_TAG in run.data.tags:
                trainings.setdefault(run.data.tags[CONTENT_TAG], []).append(run)
        several = [runs for runs in trainings.values() if len(runs) > 1]
        for runs in several:
            only_one(self._client, runs)
        return sum(len(runs) - 1 for runs in several)

    def close_abandoned(self, tags: Mapping[str, str]) -> int:
        """Mark the runs of the experiment with these tags that are still RUNNING as KILLED; how many.

        Nobody may be recording one of them.
        """
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            return 0
        runs = runs_with(self._client, found.experiment_id, tags, "attributes.status = 'RUNNING'")
        for run in runs:
            self._client.set_terminated(run.info.run_id, "KILLED")
        return len(runs)

    def _experiment_id(self) -> str:
        exceptions = mlflow_module().exceptions
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(self._client.create_experiment(self.experiment, self.artifact_location))
            except exceptions.MlflowException as error:
                # another process may have created it a moment ago
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise error
        return str(found.experiment_id)

    def versions(self, kind: str) -> list[ModelVersion]:
        """All versions of a kind, oldest first; empty when none was recorded."""
        name = registered_name(kind)
        champion = self.champion(kind)
        found = self._client.search_model_versions(f"name = '{name}'")
        return sorted(
            (self._described(kind, v, champion) for v in found), key=lambda version: version.version
        )

    def _described(self, kind: str, found: Any, champion: int | None) -> ModelVersion:
        version = int(found.version)
        return ModelVersion(
            kind=kind,
            version=version,
            run_id=found.run_id,
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            is_champion=version == champion,
            metrics=dict(self._client.get_run(found.run_id).data.metrics),
            tags=dict(found.tags),
        )

    def champion(self, kind: str) -> int | None:
        """Version of the champion, or None before the first promotion."""
        name = registered_name(kind)
        if not exists(self._client, name):
            return None
        aliases = self._client.get_registered_model(name).aliases
        return int(aliases[CHAMPION]) if CHAMPION in aliases else None

    def run_of(self, kind: str, version: int) -> str | None:
        """The run that a version was registered from; None where there is no such version."""
        name = registered_name(kind)
        for found in self._client.search_model_versions(f"name = '{name}'"):
            if int(found.version) == version:
                return str(found.run_id)
        return None

    def promote(self, kind: str, version: int) -> None:
        """Make a version the champion; promoting the champion again changes nothing. UserError for no such
        version.
        """
        current = self.champion(kind)
        self._require(kind, version)
        if current == version:
            return
        history = self._history(kind)
        self._move(
            kind, version, [*history, current] if current is not None else history, "nearedge.promoted_at"
        )

    def rollback(self, kind: str) -> int:
        """Make the previous champion the champion again and return its version; UserError when there was
        none.
        """
        current, history = self.champion(kind), self._history(kind)
        if current is None or not history:
            raise UserError(
                f"there is no earlier champion of the {kind} to go back to",
                got="no champion" if current is None else f"version {current} as the first champion",
                fix="see `nearedge models list`",
            )
        self._client.set_model_version_tag(
            registered_name(kind), str(current), "nearedge.rolled_back_at", datetime.now(UTC).isoformat()
        )
        self._move(kind, history[-1], history[:-1], "nearedge.restored_at")
        return history[-1]

    def _history(self, kind: str) -> list[int]:
        """Earlier champions, the latest last."""
        name = registered_name(kind)
        if not exists(self._client, name):
            return []
        return [
            int(v) for v in json.loads(self._client.get_registered_model(name).tags.get(_HISTORY_TAG, "[]"))
        ]

    def _move(self, kind: str, version: int, history: list[int], tag: str) -> None:
        name = registered_name(kind)
        self._client.set_registered_model_tag(name, _HISTORY_TAG, json.dumps(history))
        self._client.set_model_version_tag(name, str(version), tag, datetime.now(UTC).isoformat())
        self._client.set_registered_model_alias(name, CHAMPION, str(version))

    def _require(self, kind: str, version: int) -> Any:
        known = {
            int(v.version): v for v in self._client.search_model_versions(f"name = '{registered_name(kind)}'")
        }
        if version not in known:
            has = ", ".join(map(str, sorted(known))) or "none"
            raise UserError(f"no such version of the {kind}", got=version, fix=f"choose from: {has}")
        return known[version]

    def download(self, kind: str, version: int | str, folder: str | Path) -> Path:
        """Copy the model folder of a version (a number, or an alias such as "champion") to `folder` and
        return it.

        An existing `folder` is replaced. UserError when there is no such version or alias.
        """
        found = self._require(kind, self._number(kind, version))
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as scratch:
            path = f"{MODEL_PATH}/artifacts/{MODEL_ARTIFACT}"
            local = Path(self._client.download_artifacts(found.run_id, path, scratch))
            if folder.exists():
                shutil.rmtree(folder)
            local.replace(folder)
        return folder

    def _number(self, kind: str, version: int | str) -> int:
        if isinstance(version, int) or version.isdigit():
            return int(version)
        name = registered_name(kind)
        aliases = self._client.get_registered_model(name).aliases if exists(self._client, name) else {}
        if version not in aliases:
            raise UserError(f"the {kind} has no such alias", got=version, fix="see `nearedge models list`")
        return int(aliases[version])

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
from nearedge_services.registry.packaging import MODEL_ARTIFACT, save_pyfunc

CHAMPION = "champion"
_MODEL_PATH = "model"
_HISTORY_TAG = "nearedge.champion_history"
_LONGEST_PARAMETER = 500


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
    ) -> RegisteredModel:
        """One finished training as a run with a registered model version; the champion does not change.

        `model_folder` is what the model's `save` wrote; `artifacts` are further files or folders to keep.
        Metrics that are not finite are refused with UserError, as is an unknown kind. A failure marks the
        run FAILED.
        """
        name = registered_name(kind)
        broken = [key for key, value in metrics.items() if not _is_finite(value)]
        if broken:
            raise UserError(
                "a metric is not finite", got=", ".join(broken), fix="do not record a failed training"
            )
        all_tags = {"nearedge.kind": kind, "nearedge.dataset_hash": dataset_hash, **(tags or {})}
        run = self._client.create_run(
            self._experiment_id(), tags=all_tags, run_name=f"{kind}-{dataset_hash[:8]}"
        )
        run_id = run.info.run_id
        status = "FAILED"
        try:
            self._log(run_id, parameters, metrics, dataset_hash, artifacts)
            version = self._register(kind, run, Path(model_folder), metrics, all_tags)
            status = "FINISHED"
        finally:
            self._client.set_terminated(run_id, status)
        return RegisteredModel(run_id, name, version)

    def close_abandoned(self, tags: Mapping[str, str]) -> int:
        """Mark the runs of the experiment with these tags that are still RUNNING as KILLED; how many.

        Nobody may be recording one of them.
        """
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            return 0
        conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        query = " AND ".join(["attributes.status = 'RUNNING'", *conditions])
        runs = self._client.search_runs([found.experiment_id], query)
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

    def _log(
        self,
        run_id: str,
        parameters: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset_hash: str,
        artifacts: Sequence[str | Path],
    ) -> None:
        entities = mlflow_module().entities
        now = int(datetime.now(UTC).timestamp() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[entities.Metric(key, float(value), now, 0) for key, value in metrics.items()],
            params=[
                entities.Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in parameters.items()
            ],
        )
        dataset = entities.Dataset(
            name="labels",
            digest=dataset_hash[:36],
            source_type="nearedge",
            source=json.dumps({"hash": dataset_hash}),
        )
        self._client.log_inputs(run_id, datasets=[entities.DatasetInput(dataset)])
        for artifact in map(Path, artifacts):
            log = self._client.log_artifacts if artifact.is_dir() else self._client.log_artifact
            log(run_id, str(artifact), f"extra/{artifact.name}" if artifact.is_dir() else "extra")

    def _register(
        self,
        kind: str,
        run: Any,
        folder: Path,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> int:
        name = registered_name(kind)
        with tempfile.TemporaryDirectory() as scratch:
            packed = save_pyfunc(Path(scratch) / _MODEL_PATH, kind, folder, dict(metrics))
            self._client.log_artifacts(run.info.run_id, str(packed), _MODEL_PATH)
        self._ensure_registered(name)
        version = self._client.create_model_version(
            name, source=f"{run.info.artifact_uri}/{_MODEL_PATH}", run_id=run.info.run_id, tags=dict(tags)
        )
        return int(version.version)

    def _ensure_registered(self, name: str) -> None:
        if not self._exists(name):
            exceptions = mlflow_module().exceptions
            try:
                self._client.create_registered_model(name)
            except exceptions.MlflowException:
                # another process may have created it a moment ago
                if not self._exists(name):
                    raise

    def _exists(self, name: str) -> bool:
        return bool(self._client.search_registered_models(filter_string=f"name = '{name}'", max_results=1))

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
        if not self._exists(name):
            return None
        aliases = self._client.get_registered_model(name).aliases
        return int(aliases[CHAMPION]) if CHAMPION in aliases else None

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
        if not self._exists(name):
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
            path = f"{_MODEL_PATH}/artifacts/{MODEL_ARTIFACT}"
            local = Path(self._client.download_artifacts(found.run_id, path, scratch))
            if folder.exists():
                shutil.rmtree(folder)
            local.replace(folder)
        return folder

    def _number(self, kind: str, version: int | str) -> int:
        if isinstance(version, int) or version.isdigit():
            return int(version)
        name = registered_name(kind)
        aliases = self._client.get_registered_model(name).aliases if self._exists(name) else {}
        if version not in aliases:
            raise UserError(f"the {kind} has no such alias", got=version, fix="see `nearedge models list`")
        return int(aliases[version])


def _is_finite(value: float) -> bool:
    return abs(float(value)) < float("inf")

"""One training as one MLflow run with one version: taken up where it was cut short, never made twice.

Every step looks for what is there before it makes anything, so that a recording that a killed process, a killed
server or a lost answer interrupted is completed by doing it again.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError
from nearedge_services.oracles.external import scratch_prefix
from nearedge_services.registry.kinds import registered_name
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.packaging import save_pyfunc

CONTENT_TAG = "nearedge.content"
"""Tag of runs and versions that says which training they are of; looked for before one is made."""
MODEL_PATH = "model"
"""Where a run keeps its model among its artifacts."""
_LONGEST_PARAMETER = 500
_PATIENCE_S = 20
"""How long a version may take to become ready."""


@dataclass(frozen=True)
class TrainingRecord:
    """What MLflow is to know of a finished training."""

    kind: str
    folder: Path
    """What the model's `save` wrote."""
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    dataset_hash: str
    content: str | None = None
    """Identity of the training; without one it is recorded anew each time."""
    artifacts: Sequence[str | Path] = ()
    """Further files or folders to keep."""
    tags: Mapping[str, str] = field(default_factory=dict)
    span: tuple[datetime, datetime] | None = None
    """When it began and ended, where that is not now."""

    def __post_init__(self) -> None:
        registered_name(self.kind)
        broken = [key for key, value in self.metrics.items() if not abs(float(value)) < float("inf")]
        if broken:
            raise UserError(
                "a metric is not finite", got=", ".join(broken), fix="do not record a failed training"
            )

    @property
    def all_tags(self) -> dict[str, str]:
        """Tags of the run and of the version."""
        own = {"nearedge.kind": self.kind, "nearedge.dataset_hash": self.dataset_hash}
        if self.content is not None:
            own[CONTENT_TAG] = self.content
        return {**own, **self.tags}

    def moment(self, end: bool) -> int | None:
        """Beginning or end in milliseconds, as MLflow counts; None for now."""
        return None if self.span is None else int(self.span[end].timestamp() * 1000)


def record(client: Any, experiment_id: str, training: TrainingRecord) -> tuple[str, int]:
    """Run and version of a training in MLflow, made as far as they are not there yet.

    A model folder that must not be recorded raises UserError and marks the run FAILED; a recording that MLflow's
    failure cuts short stays RUNNING, to be completed.
    """
    run = _run_of(client, experiment_id, training)
    run_id = run.info.run_id
    try:
        version = _version_of(client, run_id)
        if version is None:
            _log(client, run, training)
            version = _register(client, run, training)
    except UserError:
        client.set_terminated(run_id, "FAILED")
        raise
    if run.info.status != "FINISHED":
        client.set_terminated(run_id, "FINISHED", end_time=training.moment(end=True))
    return run_id, version


def runs_with(client: Any, experiment_id: str, tags: Mapping[str, str], *conditions: str) -> list[Any]:
    """All runs of an experiment with these tags, the oldest first."""
    wanted = " AND ".join([*conditions, *(f"tags.`{key}` = '{value}'" for key, value in tags.items())])
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment_id], wanted, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def only_one(client: Any, runs: Sequence[Any]) -> Any:
    """The run to keep of several of one training; the others are deleted.

    A request whose answer was lost may have been carried out: then there are two. One that has a version goes first.
    """
    registered = [run for run in runs if _version_of(client, run.info.run_id) is not None]
    kept = [*registered, *runs][0]
    for run in runs:
        if run.info.run_id != kept.info.run_id:
            for version in _versions_of(client, run.info.run_id):
                client.delete_model_version(version.name, version.version)
            client.delete_run(run.info.run_id)
    return kept


def _run_of(client: Any, experiment_id: str, training: TrainingRecord) -> Any:
    if training.content is not None:
        found = runs_with(client, experiment_id, {CONTENT_TAG: training.content})
        if found:
            return only_one(client, found)
    name = f"{training.kind}-{training.dataset_hash[:8]}"
    return client.create_run(
        experiment_id, start_time=training.moment(end=False), tags=training.all_tags, run_name=name
    )


def _versions_of(client: Any, run_id: str) -> list[Any]:
    found = client.search_model_versions(f"run_id = '{run_id}'")
    return sorted(found, key=lambda version: int(version.version))


def _version_of(client: Any, run_id: str) -> int | None:
    """The registered version of a run; of several, which lost answers can bring about, the others are deleted."""
    found = _versions_of(client, run_id)
    for version in found[1:]:
        client.delete_model_version(version.name, version.version)
    return int(found[0].version) if found else None


def _log(client: Any, run: Any, training: TrainingRecord) -> None:
    """Parameters, metrics and data set; metrics bear the time of the run, so that doing it again adds no second one."""
    entities, run_id, at = mlflow_module().entities, run.info.run_id, run.info.start_time
    client.log_batch(
        run_id,
        metrics=[entities.Metric(key, float(value), at, 0) for key, value in training.metrics.items()],
        params=[
            entities.Param(key, str(value)[:_LONGEST_PARAMETER]) for key, value in training.parameters.items()
        ],
    )
    dataset = entities.Dataset(
        name="labels",
        digest=training.dataset_hash[:36],
        source_type="nearedge",
        source=json.dumps({"hash": training.dataset_hash}),
    )
    client.log_inputs(run_id, datasets=[entities.DatasetInput(dataset)])
    for artifact in map(Path, training.artifacts):
        log = client.log_artifacts if artifact.is_dir() else client.log_artifact
        log(run_id, str(artifact), f"extra/{artifact.name}" if artifact.is_dir() else "extra")


def _register(client: Any, run: Any, training: TrainingRecord) -> int:
    name, run_id = registered_name(training.kind), run.info.run_id
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("recording")) as scratch:
        packed = save_pyfunc(
            Path(scratch) / MODEL_PATH, training.kind, training.folder, dict(training.metrics), run_id
        )
        client.log_artifacts(run_id, str(packed), MODEL_PATH)
    _ensure_registered(client, name)
    version = client.create_model_version(
        name,
        source=f"{run.info.artifact_uri}/{MODEL_PATH}",
        run_id=run_id,
        tags=training.all_tags,
        await_creation_for=_PATIENCE_S,
    )
    return int(version.version)


def exists(client: Any, name: str) -> bool:
    """Whether a model of that name is registered."""
    return bool(client.search_registered_models(filter_string=f"name = '{name}'", max_results=1))


def _ensure_registered(client: Any, name: str) -> None:
    if not exists(client, name):
        try:
            client.create_registered_model(name)
        except mlflow_module().exceptions.MlflowException:
            # another process may have created it a moment ago
            if not exists(client, name):
                raise

"""A run directory with models that wait to be sent to MLflow."""

import shutil
from pathlib import Path

from tests.platform.tiny_models import write_models

from nearedge_agents.champions import campaign_tags
from nearedge_agents.tracking import content_of, enter_tracking
from nearedge_db.database import Database
from nearedge_db.store import add_model, list_models, promote

METRICS = {"cell_mean_rmse": 0.25, "coverage_90": 0.9}
TIMES = {"started_at": "2026-01-02T03:04:05+00:00", "finished_at": "2026-01-02T03:05:05+00:00"}


def train(database: Database, run_dir: Path, kind: str = "surrogate", *, crowned: bool = True) -> int:
    """What a trainer leaves of a training: the folder, the row and the record; the row's number."""
    source = run_dir / "tiny"
    if not source.is_dir():
        write_models(source)
    with database.session() as session:
        folder = Path("models", kind, f"{len(list_models(session, 1, kind)):03d}")
    shutil.copytree(source / kind, run_dir / folder)
    tags = campaign_tags(database, 1)
    record = {
        "parameters": {"steps": 7, "seed": 3},
        "tags": {"campaign": "agents"},
        "content": content_of(run_dir / folder, tags, str(folder)),
        **TIMES,
    }
    with database.begin() as session:
        model = add_model(
            session,
            1,
            kind,
            dataset_hash="d" * 64,
            n_train=5,
            n_held_out=2,
            metrics=METRICS,
            folder=str(folder),
            seed=3,
        )
        enter_tracking(session, model, record)
        if crowned:
            promote(session, model.id)
        return model.id

"""A local MLflow store that appears whole or not at all, and may be moved with its run directory."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from nearedge_services.registry.mlflow_library import mlflow_module

SQLITE = "sqlite:///"

ARTIFACTS = "mlflow-artifacts"
"""Folder beside a local store that keeps what its runs and models consist of."""

LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Where MLflow's tables keep absolute places of artifacts."""


def store_path(tracking_uri: str) -> Path | None:
    """The file of a local SQLite store; None for any other store."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(unquote(tracking_uri.removeprefix(SQLITE))).absolute()


def create_local_store(tracking_uri: str) -> None:
    """Create the SQLite store if it is missing; leave any other alone.

    MLflow creates its tables one by one and cannot go on where it was interrupted: the tables are made in a file
    beside it that takes the store's name when it is finished. Of two processes that do so, the first one's stays.
    """
    path = store_path(tracking_uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        uri = f"{SQLITE}{quote(str(fresh))}"
        mlflow_module().MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
        if not path.exists():
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def artifacts_beside(tracking_uri: str) -> str | None:
    """URI of the artifacts of a local store; None for any other, whose server knows."""
    path = store_path(tracking_uri)
    return None if path is None else (path.parent / ARTIFACTS).as_uri()


def follow_move(tracking_uri: str) -> bool:
    """Let a local store that was moved, or copied, find the artifacts beside it; whether anything had to change.

    MLflow keeps absolute places. Only those that end at a folder named like ours are changed. A file that is no store,
    or may not be written, is left for MLflow to complain of.
    """
    path, here = store_path(tracking_uri), artifacts_beside(tracking_uri)
    if path is None or here is None:
        return False
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            places = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            moved = [place for (place,) in places if place != here and place.endswith(f"/{ARTIFACTS}")]
            for before in moved:
                _replace(connection, before, here)
    except sqlite3.DatabaseError:
        return False
    return bool(moved)


def _replace(connection: sqlite3.Connection, before: str, here: str) -> None:
    for table, column in LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - our own names
            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (here, len(before) + 1, before, len(before) + 1, f"{before}/"),
        )

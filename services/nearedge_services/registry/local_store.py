"""A local MLflow store that appears whole or not at all."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

from nearedge_services.registry.mlflow_library import mlflow_module

SQLITE = "sqlite:///"


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

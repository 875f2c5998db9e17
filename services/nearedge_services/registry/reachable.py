"""Whether a tracking server answers: asked once, without the minutes of retries of MLflow's client."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nearedge_db.errors import UserError
from nearedge_db.redaction import without_password
from nearedge_services.registry.mlflow_library import mlflow_module

PATIENCE_S = 4
"""How long the server may take to accept the connection, and as long again to answer."""


def check_answers(tracking_uri: str, patience_s: int = PATIENCE_S) -> None:
    """Ask a tracking server (``http``, ``https``) for an experiment; any other store is not asked.

    Goes through MLflow's client, so that its variables for users, certificates and proxies count.
    Raises UserError when there is no answer, or one that is not MLflow's.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return
    mlflow = mlflow_module()
    once = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience_s)}
    try:
        with _environment(once):
            mlflow.MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except mlflow.exceptions.MlflowException as error:
        raise UserError(
            "the MLflow server does not answer as it should",
            got=f"{without_password(tracking_uri)} ({_reason(error)})",
            fix="start it, mend its address, or use the store of the run directory",
        ) from error


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the time of the block: MLflow's client has no arguments for them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reason(error: BaseException) -> str:
    """What it began with, such as "Connection refused", without the layers around it."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())[:160]

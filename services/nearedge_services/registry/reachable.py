"""Whether an MLflow store can be used: asked once, without the minutes of retries of MLflow's client."""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from nearedge_db.errors import UserError, one_line
from nearedge_db.redaction import without_password
from nearedge_services.registry.local_store import SQLITE, store_path
from nearedge_services.registry.mlflow_library import mlflow_module

PATIENCE_S = 4
"""How long the server may take to accept the connection, and as long again to answer."""


REQUEST_S = 10
"""How long a request may take that sends something."""


class StoreDownError(UserError):
    """The store is known by its kind and address, and does not answer now: it may later."""


SERVERS = ("http://", "https://")
DATABASES = ("postgresql", "postgres", "mysql")
"""Schemes of database servers, as they begin: ``postgresql+psycopg2://`` is one."""


def check_store(tracking_uri: str, patience_s: int = PATIENCE_S) -> None:
    """Look at a store of any kind without making it.

    Raises StoreDownError when a server does not answer, UserError when something else does, a file is no database or
    cannot be written, or MLflow does not know the kind.
    """
    path = store_path(tracking_uri)
    if path is not None:
        _check_file(path)
    elif tracking_uri.startswith(SERVERS):
        check_answers(tracking_uri, patience_s)
    elif tracking_uri.startswith(DATABASES):
        _check_database(tracking_uri, patience_s)
    else:
        mlflow = mlflow_module()
        try:
            mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        except mlflow.exceptions.MlflowException as error:
            raise _unusable(tracking_uri, error) from error


def _check_file(path: Path) -> None:
    nearest = path.parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if path.is_dir() or not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise _unusable(f"{SQLITE}{path}", "no file can be written there")
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise _unusable(f"{SQLITE}{path}", error) from error


def _check_database(tracking_uri: str, patience_s: int) -> None:
    try:
        engine = create_engine(tracking_uri, connect_args={"connect_timeout": patience_s})
        with closing(engine.connect()):
            pass
        engine.dispose()
    except OperationalError as error:
        raise _unusable(tracking_uri, error, StoreDownError) from error
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        raise _unusable(tracking_uri, error) from error


def _unusable(tracking_uri: str, error: Exception | str, kind: type[UserError] = UserError) -> UserError:
    return kind(
        "the MLflow store cannot be used",
        got=f"{without_password(tracking_uri)} ({one_line(error)})",
        fix="start it, mend its address, or use the store of the run directory",
    )


def check_answers(tracking_uri: str, patience_s: int = PATIENCE_S) -> None:
    """Ask a tracking server (``http``, ``https``) for an experiment; any other store is not asked.

    Goes through MLflow's client, so that its variables for users, certificates and proxies count.
    Raises StoreDownError when there is no answer, or that of a server in trouble (5xx); UserError when there is one
    that is not MLflow's.
    """
    if not tracking_uri.startswith(SERVERS):
        return
    mlflow = mlflow_module()
    once = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(patience_s)}
    try:
        with _environment(once):
            mlflow.MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except mlflow.exceptions.MlflowException as error:
        kind = StoreDownError if _is_down(error) else UserError
        raise kind(
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


def bound_requests() -> None:
    """Let MLflow's client in this process give a request up after seconds, and send none a second time.

    Its own habit is seven times two minutes; and what was carried out without an answer would be done twice. A variable
    that the user has set is respected.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_S))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def _is_down(error: BaseException) -> bool:
    """Whether nobody answered, or a server that has trouble of its own: both may pass."""
    text = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
            return True
        cause = cause.__context__
    return (
        re.search(r"(?:error code|too many|status) 5\d\d\b|\b5\d\d (?:Server Error|error responses)", text)
        is not None
    )


def _reason(error: BaseException) -> str:
    """What it began with, such as "Connection refused", without the layers around it."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())[:160]

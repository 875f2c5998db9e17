"""Brings in MLflow quietly: no telemetry, no progress bars, no chatter of its database migrations."""

import logging
import os
import warnings
from functools import cache
from types import ModuleType

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@cache
def mlflow_module() -> ModuleType:
    """The package ``mlflow`` with ``mlflow.pyfunc``, imported once; a variable that is already set is
    respected.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
        import mlflow.pyfunc
    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow

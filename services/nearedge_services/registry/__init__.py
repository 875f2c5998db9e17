"""The MLflow registry of trained models. Names are resolved on first use: MLflow takes seconds to import."""

from importlib import import_module
from typing import Any

_HOME = {
    "CHAMPION": "model_registry",
    "KINDS": "kinds",
    "ModelRegistry": "model_registry",
    "ModelVersion": "model_registry",
    "RegisteredModel": "model_registry",
    "load_calculator": "loading",
    "registered_name": "kinds",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

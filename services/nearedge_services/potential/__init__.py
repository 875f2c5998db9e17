"""The machine-learned interatomic potential: a committee of small MACE networks.

Names are resolved on first use, so that reading the settings does not load torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "EnergyPrediction": "potential",
    "NonFiniteForces": "errors",
    "Potential": "potential",
    "PotentialError": "errors",
    "PotentialSettings": "settings",
    "Relaxation": "relax",
    "evaluate_potential": "evaluation",
    "relax_batch": "relax",
    "train_potential": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

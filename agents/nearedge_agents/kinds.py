"""The three kinds of model behind one shape: how each is trained, judged, and loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Kind:
    """``headline`` names the held-out metric that decides promotion; lower is better.

    ``train`` takes a ``device``; what ``load`` returns is on the CPU and goes elsewhere by ``.to(device)``.
    """

    name: str
    settings: type[BaseModel]
    train: Callable[..., tuple[Any, dict[str, float]]]
    evaluate: Callable[..., dict[str, float]]
    headline: str
    load: Callable[..., Any]


def make_kind(name: str) -> Kind:
    """The kind of that name (``prior``, ``surrogate`` or ``potential``); imports only what it needs."""
    if name == "prior":
        from nearedge_services.diffusion.evaluation import evaluate_prior
        from nearedge_services.diffusion.prior import Prior
        from nearedge_services.diffusion.settings import PriorSettings
        from nearedge_services.diffusion.training import train_prior

        return Kind(name, PriorSettings, train_prior, evaluate_prior, Prior.HEADLINE, Prior.load)
    if name == "surrogate":
        from nearedge_services.surrogate.evaluation import evaluate_surrogate
        from nearedge_services.surrogate.settings import SurrogateSettings
        from nearedge_services.surrogate.surrogate import Surrogate
        from nearedge_services.surrogate.training import train_surrogate

        return Kind(
            name, SurrogateSettings, train_surrogate, evaluate_surrogate, Surrogate.HEADLINE, Surrogate.load
        )
    if name == "potential":
        from nearedge_services.potential.evaluation import evaluate_potential
        from nearedge_services.potential.potential import Potential
        from nearedge_services.potential.settings import PotentialSettings
        from nearedge_services.potential.training import train_potential

        return Kind(
            name, PotentialSettings, train_potential, evaluate_potential, Potential.HEADLINE, Potential.load
        )
    raise ValueError(f"unknown model kind {name=}")

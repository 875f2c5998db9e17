"""Registered models by their MLflow address, in one call."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearedge_db.errors import UserError
from nearedge_services.registry.kinds import kind_of
from nearedge_services.registry.model_registry import ModelRegistry

if TYPE_CHECKING:
    from nearedge_services.potential.calculator import PotentialCalculator

_ADDRESS = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))$")


def load_calculator(uri: str, tracking_uri: str, members: int | None = None) -> "PotentialCalculator":
    """The registered potential as an ASE calculator.

    Example:
        atoms.calc = load_calculator("models:/nearedge-potential@champion", "sqlite:///runs/mlflow.db")

    `uri` is `models:/NAME@ALIAS` or `models:/NAME/VERSION`; `members` takes only the first networks of the
    committee. Raises UserError for another kind of model, an unknown version, or a malformed address.
    """
    from nearedge_services.potential.potential import Potential

    match = _ADDRESS.match(uri)
    if match is None:
        raise UserError("not an address of a model", got=uri, fix="write models:/nearedge-potential@champion")
    kind = kind_of(match["name"])
    if kind != "potential":
        raise UserError("only a potential is an ASE calculator", got=uri, fix="name nearedge-potential")
    with tempfile.TemporaryDirectory() as scratch:
        registry = ModelRegistry(tracking_uri, experiment="")
        folder = registry.download(kind, match["alias"] or match["version"], Path(scratch) / kind)
        return Potential.load(folder).calculator(members)

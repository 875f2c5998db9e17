"""Registered models by their MLflow address, in one call."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearedge_db.errors import UserError
from nearedge_services.oracles.external import scratch_prefix
from nearedge_services.registry.kinds import kind_of
from nearedge_services.registry.local_store import store_path
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.model_registry import ModelRegistry
from nearedge_services.registry.reachable import check_store

if TYPE_CHECKING:
    from nearedge_services.potential.calculator import PotentialCalculator

_ADDRESS = re.compile(r"^models:/(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+))$")


def load_calculator(
    uri: str, tracking_uri: str | None = None, members: int | None = None
) -> "PotentialCalculator":
    """The registered potential as an ASE calculator.

    Example:
        atoms.calc = load_calculator("models:/nearedge-potential@champion", "sqlite:///runs/mlflow.db")

    `uri` is `models:/NAME@ALIAS` or `models:/NAME/VERSION`; `tracking_uri` is by default what MLflow itself uses;
    `members` takes only the first networks of the committee. Raises UserError for another kind of model, an unknown
    version, a malformed address, or a store that is not there or does not answer.
    """
    from nearedge_services.potential.potential import Potential

    match = _ADDRESS.match(uri)
    if match is None:
        raise UserError("not an address of a model", got=uri, fix="write models:/nearedge-potential@champion")
    kind = kind_of(match["name"])
    if kind != "potential":
        raise UserError("only a potential is an ASE calculator", got=uri, fix="name nearedge-potential")
    tracking_uri = tracking_uri or mlflow_module().get_tracking_uri()
    path = store_path(tracking_uri)
    if path is not None and not path.is_file():
        raise UserError(
            "there is no model registry here", got=path, fix="name the store, or set MLFLOW_TRACKING_URI"
        )
    check_store(tracking_uri)
    with tempfile.TemporaryDirectory(prefix=scratch_prefix("loading")) as scratch:
        registry = ModelRegistry(tracking_uri, experiment="")
        folder = registry.download(kind, match["alias"] or match["version"], Path(scratch) / kind)
        return Potential.load(folder).calculator(members)

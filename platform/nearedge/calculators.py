"""The potential of a registry, or of a campaign, as an ASE calculator."""

from pathlib import Path
from typing import TYPE_CHECKING

from nearedge_services.registry.kinds import CHAMPION_POTENTIAL

if TYPE_CHECKING:
    from nearedge_services.potential.calculator import PotentialCalculator


def load_calculator(
    uri: str = CHAMPION_POTENTIAL, store: str | Path | None = None, members: int | None = None
) -> "PotentialCalculator":
    """A registered potential as an ASE calculator; nothing is unpickled.

    Example:
        atoms.calc = nearedge.load_calculator("models:/nearedge-potential@champion", "runs/quickstart")

    `uri` is `models:/NAME@ALIAS` or `models:/NAME/VERSION`. `store` is the run directory of a campaign or an MLflow
    tracking URI; by default MLflow's own, which the variable MLFLOW_TRACKING_URI sets. `members` takes only the first
    networks of the committee. Raises UserError for another kind of model, an unknown version, a malformed address, or a
    store that is not there or does not answer.
    """
    from nearedge.rundir import RunDir
    from nearedge_services.registry.loading import load_calculator as load

    is_folder = store is not None and (isinstance(store, Path) or "://" not in store)
    tracking_uri = RunDir(Path(store or "")).mlflow_uri if is_folder else store
    return load(uri, None if tracking_uri is None else str(tracking_uri), members)

"""What a site or a cluster tells every campaign by environment variables: servers, run directories, Ray."""

import itertools
import os
from pathlib import Path
from typing import Any

from nearedge_db.errors import UserError

DATABASE, MLFLOW, RUNS = "NEAREDGE_DATABASE", "NEAREDGE_MLFLOW", "NEAREDGE_RUNS"
RAY_ADDRESS = "RAY_ADDRESS"
"""Ray's own variable; Ray sets it for every submitted job to the cluster that the job runs on."""

_PACKAGES_OF_JOBS = ("runtime_resources", "working_dir_files")
"""Folders under which a node of Ray unpacks the working directories of jobs, and removes them some time later."""


def fill_in_servers(settings: dict[str, Any]) -> None:
    """Take ``database`` and ``mlflow`` from the environment where the settings say nothing about them."""
    for key, variable in (("database", DATABASE), ("mlflow", MLFLOW)):
        if os.environ.get(variable):
            settings.setdefault(key, os.environ[variable])


def runs_folder() -> Path:
    """Folder of the run directories by campaign name: ``NEAREDGE_RUNS``, else ``runs`` in the working directory.

    A submitted job's own working directory does not last: there it is ``~/nearedge-runs`` instead.
    """
    if os.environ.get(RUNS):
        return Path(os.environ[RUNS])
    return Path.home() / "nearedge-runs" if will_be_removed(Path.cwd()) else Path("runs")


def will_be_removed(folder: Path) -> bool:
    """Whether a folder is in the working directory that Ray unpacked for a job, and removes when it needs the space."""
    parts = folder.absolute().parts
    return any(pair == _PACKAGES_OF_JOBS for pair in itertools.pairwise(parts))


def warning_about(run_dir: Path) -> str | None:
    """What to tell a user whose run directory will not last; None where it will."""
    if not will_be_removed(run_dir):
        return None
    return (
        f"warning: the run directory {run_dir.absolute()} is in the job's own working directory, which Ray removes "
        f"after the job; give an absolute --dir, or set {RUNS}"
    )


def ray_address(given: str | None) -> str | None:
    """Address of the cluster to use: the setting, else ``RAY_ADDRESS``; None for a Ray of the campaign's own.

    Raises UserError where ``RAY_ADDRESS`` is the address of a dashboard, which takes jobs but no drivers.
    """
    address = given or os.environ.get(RAY_ADDRESS) or None
    if address == "local":
        return None
    if given is None and address is not None and address.startswith(("http://", "https://")):
        raise UserError(
            f"{RAY_ADDRESS} is the address of a dashboard",
            got=address,
            fix="submit the campaign with `ray job submit -- nearedge run …`, or set ray.address",
        )
    return address


def name_of_address(given: str | None) -> str:
    """What a user calls the address that :func:`ray_address` returns."""
    return RAY_ADDRESS if given is None else "ray.address"

"""Which database ``nearedge sql`` and ``nearedge db`` look at."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nearedge_db.errors import UserError

Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir", help="Run directory; default: this folder, else the database of NEAREDGE_DATABASE."
    ),
]
Url = Annotated[
    str | None, typer.Option("--url", help="Database URL instead, e.g. postgresql://user@host/name.")
]


def database_url(directory: Path | None, url: str | None) -> str:
    """The URL given, or that of the campaign in the run directory, wherever its database is.

    Raises UserError, naming run directories nearby, when there is no campaign.
    """
    from nearedge.rundir import RunDir, find_runs
    from nearedge.site import DATABASE

    if url is not None:
        return url
    run_dir = RunDir(directory or Path())
    if run_dir.exists:
        return run_dir.database_url
    if directory is None and os.environ.get(DATABASE):
        return os.environ[DATABASE]
    nearby = find_runs() if directory is None else find_runs(directory / "runs")
    raise UserError(
        "there is no campaign here",
        got=run_dir.path,
        fix=f"give --dir {nearby[0].path}" if nearby else "give its run directory with --dir",
    )

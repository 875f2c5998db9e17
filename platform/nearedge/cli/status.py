"""``nearedge status``: what campaigns are doing, how far they are, what they cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nearedge.rundir import RunDir
    from nearedge.summary import CampaignSummary


def status(
    campaign: Annotated[
        str | None, typer.Argument(help="Name of the campaign; default: all under runs/.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run directory; default: runs/CAMPAIGN.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: an object, or a list for all campaigns.")
    ] = False,
) -> None:
    """Show state, labels, distances, occupancy of the pools and cost, all read from the database.

    Example: nearedge status quickstart --json
    """
    import json

    from rich.console import Console

    from nearedge.cli.outputs import existing_run
    from nearedge.rundir import find_runs
    from nearedge.status import print_overview, print_summary
    from nearedge_db.errors import UserError

    if campaign is None and directory is None:
        summaries = [_read(run_dir, None, inferring=as_json) for run_dir in find_runs()]
        if not summaries and not as_json:
            raise UserError(
                "there is no campaign under runs/", fix="start one, or give its directory with --dir"
            )
        if as_json:
            typer.echo(json.dumps([summary.to_json() for summary in summaries], indent=1, allow_nan=False))
        else:
            print_overview(summaries, Console())
        return
    summary = _read(existing_run(campaign or "", directory), campaign)
    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=1, allow_nan=False))
    else:
        print_summary(summary, Console())


def _read(run_dir: "RunDir", campaign: str | None, *, inferring: bool = True) -> "CampaignSummary":
    from nearedge.summary import summarise

    database = run_dir.open_database()
    try:
        return summarise(database, campaign or run_dir.campaign_name, inferring=inferring)
    finally:
        database.dispose()

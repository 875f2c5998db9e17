"""``nearedge report``: what a campaign found, as one self-contained page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; default: report.html in the run directory."),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also draw the main panels into this picture (.png).")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run directory; default: runs/CAMPAIGN.")
    ] = None,
) -> None:
    """Write the report of a campaign, finished or not: one HTML file that needs no network.

    Example: nearedge report quickstart -o report.html
    """
    from nearedge.cli.outputs import check_output, existing_run
    from nearedge.report import write_png, write_report

    if png is not None:
        check_output(png, [".png"])
    if output is not None:
        check_output(output, [".html", ".htm"])
    run_dir = existing_run(campaign, directory)
    page = output or run_dir.path / "report.html"
    for path in (page, png):
        if path is not None:
            check_output(path, inputs=run_dir.files)
    database = run_dir.open_database()
    try:
        write_report(database, campaign, page)
        if png is not None:
            write_png(database, campaign, png)
    finally:
        database.dispose()
    typer.echo(" ".join(["wrote", str(page), *(["and", str(png)] if png is not None else [])]))

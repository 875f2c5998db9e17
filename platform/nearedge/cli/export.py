"""``nearedge export``: the best structures of a campaign as extended XYZ."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Extended XYZ file to write.", metavar="OUT.extxyz")
    ],
    best: Annotated[int, typer.Option(min=1, help="How many of the best structures.")] = 20,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run directory; default: runs/CAMPAIGN.")
    ] = None,
) -> None:
    """Write the oracle-labelled structures nearest to the target, the best first, with labels and provenance.

    Example: nearedge export quickstart --best 20 -o best.extxyz
    """
    from nearedge.cli.outputs import check_output, existing_run
    from nearedge.export import export_best

    check_output(output)
    run_dir = existing_run(campaign, directory)
    check_output(output, inputs=run_dir.files)
    database = run_dir.open_database()
    try:
        count = export_best(database, campaign, best, output)
    finally:
        database.dispose()
    typer.echo(f"wrote {count} structures to {output}")

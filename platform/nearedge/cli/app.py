"""The ``nearedge`` program: its commands, and how errors reach the user."""

import sys
from collections.abc import Sequence

import typer

from nearedge.cli import db, models
from nearedge.cli.bench import bench
from nearedge.cli.evaluate import evaluate
from nearedge.cli.export import export
from nearedge.cli.generate import generate
from nearedge.cli.label import label
from nearedge.cli.pretrain import pretrain
from nearedge.cli.report import report
from nearedge.cli.run import run
from nearedge.cli.seeds import seeds
from nearedge.cli.spectrum import spectrum
from nearedge.cli.sql import sql
from nearedge.cli.status import status
from nearedge.cli.stop import stop
from nearedge.cli.train import train
from nearedge.cli.usage import Commands, UsageError, complain
from nearedge_db.errors import UserError

app = typer.Typer(
    name="nearedge",
    cls=Commands,
    help="Find three-dimensional structures of disordered materials that reproduce a measured XANES spectrum.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    run,
    status,
    stop,
    label,
    seeds,
    spectrum,
    generate,
    evaluate,
    train,
    pretrain,
    export,
    sql,
    report,
    bench,
):
    app.command()(command)
app.add_typer(models.app, cls=Commands, name="models", help="List, promote and roll back registered models.")
app.add_typer(db.app, cls=Commands, name="db", help="Look after the campaign's database.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; a user's error becomes one line on stderr and exit status 2."""
    try:
        given = list(arguments) if arguments is not None else None
        sys.exit(app(args=given, prog_name="nearedge", standalone_mode=False))
    except UsageError as error:
        complain(error)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except typer.Abort:
        sys.exit(1)


if __name__ == "__main__":
    main()

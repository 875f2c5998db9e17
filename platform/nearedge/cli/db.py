"""``nearedge db``: look after the database of a campaign."""

import typer

from nearedge.cli.location import Directory, Url, database_url

app = typer.Typer(no_args_is_help=True)


@app.command()
def upgrade(directory: Directory = None, url: Url = None) -> None:
    """Bring the database to the newest revision.

    Example: nearedge db upgrade --dir runs/quickstart
    """
    from nearedge_db.database import Database

    database = Database.open(database_url(directory, url), create=False)
    typer.echo(f"{database.shown}: revision {database.revision()} (newest)")
    database.dispose()


@app.command()
def current(directory: Directory = None, url: Url = None) -> None:
    """Show the revision of the database beside the newest one that this program knows; changes nothing.

    Example: nearedge db current --dir runs/quickstart
    """
    from nearedge_db.database import Database
    from nearedge_db.migrate import head, known_revisions

    database = Database.inspect(database_url(directory, url))
    revision = database.revision()
    advice = "" if revision == head() else "; run `nearedge db upgrade`"
    if revision is not None and revision not in known_revisions():
        advice = "; a newer NearEdge wrote it: upgrade with `pip install --upgrade nearedge`"
    typer.echo(f"{database.shown}: revision {revision or 'none'}, newest {head()}{advice}")
    database.dispose()

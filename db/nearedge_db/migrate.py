"""Bring a database to the newest revision, or back, without an ``alembic.ini``."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from .errors import UserError
from .views import create_views, drop_views

_MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "nearedge_alembic_version"
"""A name of its own: Optuna keeps its `alembic_version` in the same database."""

_ADVISORY_LOCK = 0x6E656172656467  # any fixed number: two processes must not migrate at once


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision that this package knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the package holds no migrations")
    return revision


def known_revisions() -> frozenset[str]:
    """Every revision that this package knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def current(connection: Connection) -> str | None:
    """Revision of the database; ``None`` when it has never been migrated."""
    return MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()


def check_known(connection: Connection) -> str | None:
    """Revision of the database.

    Raises:
        UserError: it was written by a newer NearEdge, or it is no NearEdge database.
    """
    revision = current(connection)
    if revision is None and inspect(connection).has_table("campaigns"):
        raise UserError(
            "the database has tables of the same names that NearEdge did not make",
            got=connection.engine.url.render_as_string(),
            fix="give another database with --url or --dir",
        )
    if revision is not None and revision not in known_revisions():
        raise UserError(
            "the database was written by a newer NearEdge",
            got=f"revision {revision} (this one knows up to {head()})",
            fix="upgrade with `pip install --upgrade nearedge`, or use another --dir",
        )
    return revision


def upgrade(connection: Connection) -> str:
    """Migrate to the newest revision inside the caller's transaction; returns that revision.

    Raises:
        UserError: the database is of a revision that this package does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if check_known(connection) != head():
        drop_views(connection)
        command.upgrade(_config(connection), "head")
        create_views(connection)
    return head()


def downgrade(connection: Connection, revision: str) -> None:
    """Migrate back to ``revision`` (``"base"`` drops every table) inside the caller's transaction.

    The views belong to the newest revision and are dropped.
    """
    drop_views(connection)
    command.downgrade(_config(connection), revision)

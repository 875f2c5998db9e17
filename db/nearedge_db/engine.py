"""Engines: what every connection is set to, and what a transaction begins with."""

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from .errors import UserError
from .hashing import canonical_json

BUSY_TIMEOUT_SECONDS = 30.0
_URL_FORMS = "sqlite:///RUN_DIR/nearedge.db or postgresql://user@host/name"


def parse_url(url: str) -> URL:
    """Parse an SQLAlchemy URL; plain ``postgresql://`` goes through psycopg 3.

    Raises:
        UserError: malformed, or an in-memory SQLite database, which no second process could share.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise UserError("not a database URL", got=repr(url), fix=f"give {_URL_FORMS}") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UserError(
            "a campaign cannot live in memory: its processes share the database",
            got=url,
            fix=f"give {_URL_FORMS}",
        )
    return parsed


def sqlite_file(url: URL) -> Path:
    """Path of the file of an SQLite URL."""
    return Path(str(url.database))


def make_engine(url: URL) -> Engine:
    """An engine for ``url``, set up for several processes that write.

    Raises:
        UserError: the driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}
            engine = create_engine(url, json_serializer=canonical_json, **options)
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        return create_engine(url, json_serializer=canonical_json, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise UserError(
            "the driver of this database is not installed",
            got=f"{url.drivername} ({error.name})",
            fix="for PostgreSQL: pip install 'nearedge[postgresql]'",
        ) from error


def _set_up_sqlite(connection: Any, record: Any) -> None:
    """Hand transactions to SQLAlchemy; readers and writer do not wait for each other."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers take the lock at once: a reader that turns writer half-way cannot be made to wait."""
    options = connection.get_execution_options()
    writing = options.get("nearedge_write", False)
    if writing:
        wanted = "NORMAL" if options.get("nearedge_unsynced", False) else "FULL"
        if connection.info.get("synchronous", "FULL") != wanted:
            connection.exec_driver_sql(f"PRAGMA synchronous = {wanted}")
            connection.info["synchronous"] = wanted
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

"""Read-only SQL for users: what it runs cannot change the database, whatever it says."""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL

from .engine import BUSY_TIMEOUT_SECONDS, parse_url, sqlite_file
from .errors import UserError

Columns = list[str]
Rows = Iterator[tuple[Any, ...]]

_ALLOWED_ACTIONS = frozenset(
    (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
)
_ALLOWED_PRAGMAS = frozenset(("table_info", "table_xinfo", "table_list", "index_list", "index_info"))
_FETCH = 500
_READS_ONLY = "give one SELECT statement: this interface only reads"


def read_only_query(url: str, sql: str, limit: int | None = None) -> tuple[Columns, Rows]:
    """Run one SELECT on a database that others may be writing.

    Args:
        url: as for :meth:`nearedge_db.database.Database.open`.
        sql: one statement that reads.
        limit: at most so many rows.

    Returns:
        Column names, and an iterator over the rows that closes the connection at its end. Rows see the
        database as it was when the query began.

    Raises:
        UserError: no such database, a statement that is wrong or that would write, or more than one. An
            error in the middle of the rows is raised from the iterator.
    """
    parsed = parse_url(url)
    if not sql.strip():
        raise UserError("the query is empty", fix=_READS_ONLY)
    if parsed.get_backend_name() == "sqlite":
        columns, rows = _query_sqlite(sqlite_file(parsed), sql)
    elif parsed.get_backend_name() == "postgresql":
        columns, rows = _query_postgresql(parsed, sql)
    else:
        raise UserError(
            "read-only SQL needs SQLite or PostgreSQL",
            got=parsed.get_backend_name(),
            fix="query this database with its own client",
        )
    return columns, rows if limit is None else islice(rows, limit)


def _query_sqlite(path: Path, sql: str) -> tuple[Columns, Rows]:
    if not path.is_file():
        raise UserError(
            "there is no NearEdge database here",
            got=path,
            fix="give the run directory of a campaign with --dir",
        )
    connection = _connect_sqlite(path)
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise UserError("the query returns no rows", got=repr(sql), fix=_READS_ONLY)
        first = cursor.fetchmany(_FETCH)
    except (sqlite3.Error, sqlite3.Warning) as error:
        connection.close()
        raise _refused(sql, str(error)) from error
    except UserError:
        connection.close()
        raise
    return [column[0] for column in cursor.description], _sqlite_rows(connection, cursor, first, sql)


def _connect_sqlite(path: Path) -> sqlite3.Connection:
    """A connection that cannot write: opened read-only, ``query_only``, and every other action refused."""
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS
        )
        connection.execute("PRAGMA query_only = ON").close()
        connection.execute("SELECT COUNT(*) FROM sqlite_schema").close()
    except sqlite3.Error as error:
        raise UserError(
            f"cannot read the database ({error})", got=path, fix="give the path of a NearEdge database"
        ) from error
    connection.set_authorizer(_authorize)
    return connection


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """SQLite asks this for every action of a statement before it runs."""
    if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and first is not None and first.lower() in _ALLOWED_PRAGMAS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_OK if action in _ALLOWED_ACTIONS else sqlite3.SQLITE_DENY


def _sqlite_rows(
    connection: sqlite3.Connection, cursor: sqlite3.Cursor, first: list[tuple[Any, ...]], sql: str
) -> Rows:
    try:
        batch = first
        while batch:
            yield from batch
            batch = cursor.fetchmany(_FETCH)
    except sqlite3.Error as error:
        raise _refused(sql, str(error)) from error
    finally:
        connection.close()


def _query_postgresql(url: URL, sql: str) -> tuple[Columns, Rows]:
    """Through a server-side cursor: PostgreSQL declares one for a single query only, and rows stream."""
    try:
        import psycopg
    except ModuleNotFoundError as error:
        raise UserError(
            "the driver of PostgreSQL is not installed", fix="pip install 'nearedge[postgresql]'"
        ) from error
    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = psycopg.connect(conninfo)
    except psycopg.OperationalError as error:
        raise UserError(
            f"cannot reach the database ({error})",
            got=url.render_as_string(),
            fix="check the server, the name and the user in --url",
        ) from error
    try:
        connection.execute("SET TRANSACTION READ ONLY")
        cursor = connection.cursor(name="nearedge_query")
        cursor.itersize = _FETCH
        cursor.execute(sql.strip().rstrip(";").encode())
        first = cursor.fetchmany(_FETCH)
    except psycopg.Error as error:
        connection.close()
        raise _refused(sql, str(error)) from error
    columns = [column.name for column in cursor.description or ()]
    return columns, _postgresql_rows(connection, cursor, first, sql)


def _postgresql_rows(connection: Any, cursor: Any, first: list[tuple[Any, ...]], sql: str) -> Rows:
    import psycopg

    try:
        batch = first
        while batch:
            yield from batch
            batch = cursor.fetchmany(_FETCH)
    except psycopg.Error as error:
        raise _refused(sql, str(error)) from error
    finally:
        connection.close()


def _refused(sql: str, reason: str) -> UserError:
    return UserError(f"the query was refused ({reason})", got=repr(sql), fix=_READS_ONLY)

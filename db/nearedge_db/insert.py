"""Insert rows unless there are some with the same key, whoever else is inserting them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from .prepared import Prepared, completed
from .schema import Base

_Row = TypeVar("_Row", bound=Base)


def get_or_insert(
    session: Session, table: type[_Row], key: dict[str, Any], values: dict[str, Any]
) -> tuple[_Row, bool]:
    """The row with these ``key`` columns, inserted with ``values`` if it was absent; and whether it was.

    Raises:
        IntegrityError: the row breaks another constraint than the uniqueness of its key.
    """
    query = select(table).filter_by(**key)
    row = session.scalar(query)
    if row is not None:
        return row, False
    row = table(**key, **values)
    if dialect_of(session) == "sqlite":
        session.add(row)  # there is one writer at a time, and this is it
        session.flush()
        return row, True
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # PostgreSQL: another transaction committed the same key between the two statements.
        found = session.scalar(query)
        if found is None:
            raise
        return found, False
    return row, True


def insert_missing(
    session: Session, table: type[Base], key: Sequence[str], rows: list[dict[str, Any]]
) -> None:
    """Insert the rows, which all have the same columns, leaving out those whose ``key`` columns are taken.

    Raises:
        IntegrityError: a row breaks another constraint than the uniqueness of its key.
    """
    if rows:
        full = [completed(table.__table__, row) for row in rows]
        _one_by_one(table, tuple(key), tuple(full[0])).many(session, full)


def insert_returning(
    session: Session,
    table: type[Base],
    key: tuple[str, ...],
    columns: tuple[str, ...],
    rows: list[dict[str, Any]],
) -> list[Any]:
    """:func:`insert_missing` in one statement; returns these ``columns`` of the inserted rows, in any order."""
    if not rows:
        return []
    full = [completed(table.__table__, row) for row in rows]
    values = {f"{name}_{place}": value for place, row in enumerate(full) for name, value in row.items()}
    statement = _together(table, key, columns, tuple(full[0]), len(full))
    return list(statement.rows(session, values))


@cache
def _one_by_one(table: type[Base], key: tuple[str, ...], columns: tuple[str, ...]) -> Prepared:
    return Prepared(lambda dialect: new_rows(dialect, table, key), columns)


@cache
def _together(
    table: type[Base],
    key: tuple[str, ...],
    returned: tuple[str, ...],
    columns: tuple[str, ...],
    count: int,
) -> Prepared:
    """So many rows in one statement; the parameters have the number of the row behind the column's name."""
    types = table.__table__.c

    def make(dialect: str) -> Any:
        rows = [
            {name: bindparam(f"{name}_{place}", type_=types[name].type) for name in columns}
            for place in range(count)
        ]
        return new_rows(dialect, table, key).values(rows).returning(*(types[name] for name in returned))

    return Prepared(make)


def dialect_of(session: Session) -> str:
    """``sqlite`` or ``postgresql``."""
    return session.get_bind().dialect.name


@cache
def new_rows(dialect: str, table: type[Base], key: tuple[str, ...]) -> Any:
    """The statement that inserts rows unless their ``key`` is taken; made once, for making takes as long as executing.

    It can be extended (``values``, ``returning``).
    """
    module: Any = sqlite if dialect == "sqlite" else postgresql
    return module.insert(table.__table__).on_conflict_do_nothing(index_elements=list(key))

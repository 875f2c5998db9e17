"""Insert a row unless one with the same key is there, whoever else is inserting it."""

from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

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

"""Statements that a campaign executes for every label, compiled once.

SQLAlchemy looks a statement up in a cache, checks parameters and arranges the result anew for each execution, which
takes several times as long as what SQLite does with most of them. Here that is done once for each database; what is
executed is the same text with the same conversions of values.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

Values = Mapping[str, Any]


class Prepared:
    """One statement with named parameters. Results have the driver's plain values: no type converts them."""

    def __init__(self, make: Callable[[str], Any], columns: Sequence[str] | None = None) -> None:
        """``make`` takes the dialect's name and returns the statement; ``columns`` are those of an insert."""
        self._make, self._columns = make, columns
        self._forms: WeakKeyDictionary[Dialect, _Form] = WeakKeyDictionary()

    def rows(self, session: Session, values: Values) -> Sequence[Any]:
        """Execute it; returns the rows that it gives, as tuples."""
        form = self._form(session)
        return _execute(session.connection(), form.text, form.arranged(values))

    def one(self, session: Session, values: Values) -> Any:
        """Execute it; returns the first row that it gives, or None."""
        rows = self.rows(session, values)
        return rows[0] if rows else None

    def many(self, session: Session, rows: Iterable[Values]) -> None:
        """Execute it for each of these; without any, nothing is done."""
        form = self._form(session)
        arranged = [form.arranged(row) for row in rows]
        if arranged:
            _execute(session.connection(), form.text, arranged)

    def _form(self, session: Session) -> "_Form":
        dialect = session.get_bind().dialect
        form = self._forms.get(dialect)
        if form is None:
            form = self._forms[dialect] = _Form(self._make(dialect.name), dialect, self._columns)
        return form


class _Form:
    """The text for one dialect, and how it wants its parameters."""

    def __init__(self, statement: Any, dialect: Dialect, columns: Sequence[str] | None) -> None:
        given = None if columns is None else list(columns)
        compiled: Any = statement.compile(dialect=dialect, column_keys=given, for_executemany=True)
        absent = [*getattr(compiled, "insert_prefetch", ()), *getattr(compiled, "update_prefetch", ())]
        if absent or compiled.post_compile_params:
            raise ValueError(f"a prepared statement names its columns and parameters: {compiled}")
        self.text = str(compiled)
        self._is_positional: bool = compiled.positional
        names: list[str] = compiled.positiontup if compiled.positional else list(compiled.binds)
        self._parameters = [(name, *_parameter(compiled.binds[name], dialect)) for name in names]

    def arranged(self, values: Values) -> Any:
        """The parameters as the driver takes them."""
        pairs = [
            (name, constant if is_constant else convert(values[name]) if convert else values[name])
            for name, convert, is_constant, constant in self._parameters
        ]
        return tuple(value for _, value in pairs) if self._is_positional else dict(pairs)


def _parameter(bind: Any, dialect: Dialect) -> tuple[Callable[[Any], Any] | None, bool, Any]:
    """How a value is converted; whether the statement says itself what it is, and what then."""
    convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
    if bind.required:
        return convert, False, None
    constant = bind.effective_value
    return None, True, convert(constant) if convert else constant


def _execute(connection: Connection, text: str, parameters: Any) -> Sequence[Any]:
    """The rows of a statement. SQLite is asked directly: what SQLAlchemy adds takes longer than most statements."""
    if connection.dialect.name == "sqlite":
        try:
            with closing(connection.connection.cursor()) as cursor:
                execute = cursor.executemany if isinstance(parameters, list) else cursor.execute
                execute(text, parameters)
                return cursor.fetchall()
        except sqlite3.Error as error:
            raise DBAPIError.instance(
                text, parameters, error, sqlite3.Error, dialect=connection.dialect
            ) from error
    result = connection.exec_driver_sql(text, parameters)
    return result.all() if result.returns_rows else ()


@cache
def _made_anew(table: Any) -> dict[str, tuple[bool, Any]]:
    """Columns of a table that get a value where a row has none: whether it is called for, and what it is."""
    return {
        column.name: (column.default.is_callable, column.default.arg)
        for column in table.columns
        if column.default is not None
    }


def completed(table: Any, row: Values) -> dict[str, Any]:
    """A row with the defaults of its table."""
    missing = {
        name: arg(None) if is_called else arg
        for name, (is_called, arg) in _made_anew(table).items()
        if name not in row
    }
    return {**row, **missing}

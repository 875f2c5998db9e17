"""``nearedge sql``: read-only SQL on the database of a campaign."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from nearedge.cli.location import Directory, Url, database_url

Writer = Callable[[Sequence[str], Iterable[tuple[Any, ...]]], None]

_NPY_MAGIC = b"\x93NUMPY"


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT statement.")],
    directory: Directory = None,
    url: Url = None,
    output: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = Format.TABLE,
    limit: Annotated[int | None, typer.Option(min=0, help="Print at most so many rows.")] = None,
) -> None:
    """Query the database of a campaign, which cannot change it. docs/sql.md describes the views.

    Example: nearedge sql "SELECT campaign, formula, spectral_distance FROM discovered_structures LIMIT 5"
    """
    from nearedge_db.query import read_only_query

    columns, rows = read_only_query(database_url(directory, url), query, limit)
    _WRITERS[output](columns, rows)


def plain(value: Any) -> Any:
    """A cell as text or number: arrays by their size, timestamps in ISO 8601."""
    if isinstance(value, bytes | memoryview):
        blob = bytes(value)
        kind = "NPY" if blob.startswith(_NPY_MAGIC) else "blob"
        return f"<{kind} {len(blob)} bytes>"
    return value.isoformat() if isinstance(value, datetime) else value


def _write_csv(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([plain(value) for value in row])


def _write_json(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    records = [{name: plain(value) for name, value in zip(columns, row, strict=True)} for row in rows]
    typer.echo(json.dumps(records, indent=2))


_PIPE_WIDTH = 100_000


def _write_table(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*[_cell(plain(value)) for value in row])
    # A pipe has no width: the table then takes what it needs instead of folding at 80 columns.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(table)
    console.print(f"{table.row_count} rows")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_WRITERS: dict[Format, Writer] = {
    Format.TABLE: _write_table,
    Format.CSV: _write_csv,
    Format.JSON: _write_json,
}

"""``nearedge bench``: measure, and compare with baselines and limits."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearedge.bench.base import BENCHES
from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from nearedge.bench.base import Bench, BenchOptions, BenchResult, Report, Row


def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(BENCHES))}.")],
    out: Annotated[Path, typer.Option(help="Folder of NAME.json and NAME.png.")],
    short: Annotated[bool, typer.Option("--short", help="The form that fits in CI.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    model: Annotated[
        Path | None, typer.Option(help="Folder with prior/, surrogate/, potential/; the shipped models.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Reference structures; those that come with the bench.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each network evaluation.")] = 1,
) -> None:
    """Measure one quality of the program and print every figure beside its baseline and its limit.

    Example: nearedge bench scale --out results --short
    """
    from nearedge.bench.base import BenchOptions, make_bench

    bench = make_bench(name)
    check_paths(out, model, reference)
    out.mkdir(parents=True, exist_ok=True)
    options = BenchOptions(out, short, seed, model, reference, threads)
    _run(bench, options)


def check_paths(out: Path, model: Path | None, reference: Path | None) -> None:
    """Raise UserError for a folder that cannot be written, and models or references that are not there."""
    from nearedge.cli.outputs import check_output_folder

    check_output_folder(out)
    if model is not None and not model.is_dir():
        raise UserError("the folder of the models does not exist", got=model, fix="name a folder")
    if reference is not None and not reference.exists():
        raise UserError("the reference does not exist", got=reference, fix="name a file that does")


def _run(bench: "Bench", options: "BenchOptions") -> None:
    from rich.console import Console

    from nearedge.bench.record import document, write_document

    started = time.perf_counter()
    with _threads(options.threads), _progress_bar(f"Bench {bench.name}") as report:
        result = bench.run(options, report)
    whole = document(result, options, time.perf_counter() - started)
    record, picture = options.out / f"{bench.name}.json", options.out / f"{bench.name}.png"
    write_document(record, whole)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table(result))
    bench.draw(result, picture)
    console.print(f"{summary(result.rows)} in {whole['seconds']:.0f} s: {record}, {picture}")


def table(result: "BenchResult") -> "Table":
    """Measured values beside baselines and limits."""
    from rich.table import Table

    shown = Table(title=f"Bench {result.name}", title_justify="left")
    shown.add_column("what")
    for heading in ("measured", "baseline", "limit"):
        shown.add_column(heading, justify="right")
    shown.add_column("unit")
    shown.add_column("pass")
    for row in result.rows:
        limit = "–" if row.limit is None else f"{row.sense} {row.limit:.4g}"
        verdict = "–" if row.passed is None else "[green]yes" if row.passed else "[red]NO"
        shown.add_row(row.what, _number(row.measured), _number(row.baseline), limit, row.unit, verdict)
    return shown


def summary(rows: "Sequence[Row]") -> str:
    """How many of the limits are reached, in words."""
    judged = [row.passed for row in rows if row.passed is not None]
    return f"{sum(judged)} of {len(judged)} limits reached" if judged else "nothing here has a limit"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


@contextmanager
def _threads(count: int) -> "Iterator[None]":
    """So many torch threads inside, as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress_bar(title: str) -> "Iterator[Report]":
    """A progress bar on stderr; yields the function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(title), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share, text: progress.update(task, completed=share, description=text)

"""What more would take: the same conductor with larger batches and more labelers, and on a database server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nearedge.bench.loop_cost import SECTIONS, LoopCost, measure_cost
from nearedge_db.database import url_of_run

LARGER = {
    **SECTIONS,
    "generation": {"batch": 16},
    "acquisition": {"max_waiting": 96},
    "pools": {"labeler": {"size": 8}},
}
"""Sixteen structures a batch in place of 4, and 8 labelers in place of 2: more is done in each round of the loop."""


@dataclass(frozen=True)
class More:
    """Costs for each label task; None where PostgreSQL is not installed (pgserver and psycopg)."""

    larger: LoopCost
    on_server: LoopCost | None
    larger_on_server: LoopCost | None


def measure_more(folder: Path, labels: int, seed: int, report: Callable[[float], None]) -> More:
    """Run the campaigns of `loop_cost` with other settings. ``report`` takes the finished share."""
    (folder / "larger").mkdir(parents=True)
    url = url_of_run(folder / "larger")
    larger = measure_cost(folder / "larger", url, labels, seed, _third(report, 0), sections=LARGER)
    on_server: list[LoopCost | None] = [None, None]
    for place, sections in enumerate((SECTIONS, LARGER)):
        run = folder / f"server-{place}"
        run.mkdir()
        with postgresql(folder / f"postgresql-{place}") as server:
            if server is not None:
                on_server[place] = measure_cost(
                    run,
                    server,
                    labels,
                    seed,
                    _third(report, 1 + place),
                    sections=sections,
                )
    return More(larger, *on_server)


def _third(report: Callable[[float], None], place: int) -> Callable[[float], None]:
    """Takes the share of one of three parts, from 0."""
    return lambda share: report((place + share) / 3)


@contextmanager
def postgresql(folder: Path) -> Iterator[str | None]:
    """URL of a server of our own with an empty database; None where there is no such program."""
    try:
        import pgserver
        import psycopg  # noqa: F401 - the driver that SQLAlchemy uses
    except ImportError:
        yield None
        return
    server = pgserver.get_server(folder)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()

"""Structured logs: one JSON object a line, from the driver and from every actor.

Lines are appended to ``logs/HOST.jsonl`` in the run directory. Each machine has its own file, for appending is only
safe among the processes of one; whoever rotates it (``logrotate``) need not tell us.

>>> with logging_to(Path("runs/film/logs"), Source("film", "driver")):     # doctest: +SKIP
...     logging.getLogger("nearedge").info("pool resized", extra={"data": {"size": 3}})
"""

import json
import logging
import re
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from nearedge_db.redaction import without_password

OURS = ("nearedge", "nearedge_agents", "nearedge_services", "nearedge_db")
"""Loggers of which all from INFO on is kept; of others, from WARNING on."""
LONGEST = 2000
"""Characters of a message, and of the end of a traceback, that are kept: a line is written in one piece."""
FOLDER = "logs"
"""Folder of the logs in the run directory."""

TASK: ContextVar[int | None] = ContextVar("nearedge_task", default=None)
"""Task of the ledger that is being worked on."""


@dataclass(frozen=True)
class Source:
    """Who writes."""

    campaign: str
    pool: str
    """``driver`` for the driver."""
    actor: str | None = None
    """Ray's id of the actor; None for the driver."""


class JsonLines(logging.Formatter):
    """A record as one line of JSON.

    Keys: ``time`` (UTC), ``level``, ``campaign``, ``pool``, ``actor``, ``task``, ``message``; ``data`` where the
    record has it, ``error`` where it tells of an exception, ``logger`` where it is a library's.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            **asdict(self.source),
            "task": getattr(record, "task", TASK.get()),
            "message": without_password(record.getMessage())[:LONGEST],
        }
        if record.name.partition(".")[0] not in OURS:
            line["logger"] = record.name
        data = getattr(record, "data", None)
        if data is not None:
            line["data"] = data
        if record.exc_info is not None and record.exc_info[0] is not None:
            line["error"] = without_password("".join(traceback.format_exception(*record.exc_info)))[-LONGEST:]
        return json.dumps(line, ensure_ascii=False, default=str)


def _is_kept(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OURS or record.levelno >= logging.WARNING


@contextmanager
def logging_to(folder: Path, source: Source) -> Iterator[None]:
    """Append what is logged meanwhile to this machine's file in ``folder``, which is made."""
    handler = attach(folder, source)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def attach(folder: Path, source: Source) -> logging.Handler:
    """The same for as long as the process lives, or until the handler is removed from the root logger."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]", "_", socket.gethostname())
    handler = WatchedFileHandler(folder / f"{name}.jsonl", encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines(source))
    handler.addFilter(_is_kept)
    for logger in OURS:
        logging.getLogger(logger).setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    return handler

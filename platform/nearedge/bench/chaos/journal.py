"""What the oracle of the bench did, written by itself: a witness that knows nothing of the ledger.

Every line is one JSON object, appended by one write to a file that is only ever appended to, so that lines of several
processes do not mix and none is lost when the process is killed right after it.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nearedge_db.processes import birth_of, has_ended

What = Literal["begun", "beside", "fault", "failed", "ended"]
"""``beside`` follows a ``begun`` where another process that lives had the same structure already."""


@dataclass(frozen=True)
class Line:
    """One event of one calculation.

    Attributes:
        what: which.
        key: hash of the structure.
        pid, birth: the process, and when it began (`nearedge_db.processes.birth_of`).
        time: seconds since the epoch.
        note: kind of the fault, or why it failed.
    """

    what: What
    key: str
    pid: int
    birth: str
    time: float
    note: str = ""


class Journal:
    """The file. Readers and writers may be different processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, what: What, key: str, note: str = "") -> None:
        """Append a line in the name of this process."""
        pid = os.getpid()
        line = json.dumps(asdict(Line(what, key, pid, birth_of(pid), time.time(), note)))
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)

    def read(self) -> list[Line]:
        """All lines so far, in the order in which they were written."""
        if not self.path.exists():
            return []
        return [Line(**json.loads(text)) for text in self.path.read_text(encoding="utf-8").splitlines()]

    def begin(self, key: str) -> None:
        """Write that this process begins a structure, and whether another has it already.

        The line comes first and the look second: of two that begin at the same time one at least sees the other.
        """
        self.write("begun", key)
        if _is_with_somebody(self.read(), key, os.getpid()):
            self.write("beside", key)


def _is_with_somebody(lines: Iterable[Line], key: str, own_pid: int) -> bool:
    """Whether a process that lives has begun the structure and did not fail; one that ended it may be storing it."""
    having: dict[tuple[int, str], bool] = {}
    for line in lines:
        if line.key == key and line.pid != own_pid:
            having[line.pid, line.birth] = line.what not in ("fault", "failed")
    return any(has and not has_ended(pid, birth) for (pid, birth), has in having.items())

"""What is left of labels that are not finished: where it is kept and how long, and what failed programs wrote."""

import logging
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from nearedge_services.oracles.errors import FailureKind, OracleError

logger = logging.getLogger(__name__)

KEPT_DAYS = 30
"""A label that nobody went on with for so long is given up, and what was finished of it removed."""

WORK_VARIABLE = "NEAREDGE_WORK"
"""Environment variable with the folder in which finished absorbers of unfinished labels are kept."""

MOST_KEPT = 50
"""Failed runs whose output is kept, the latest."""

OUTPUT_IN = "output in "
"""In the reason of a failure, before the folder with what programs wrote."""

_TELLING = {FailureKind.CRASH, FailureKind.NOT_CONVERGED, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT}
_MOST_BYTES = 2**20
_OUTPUT = ("*.out", "*.err", "*.txt", "*.in", "*.inp", "*.json", "CRASH", "work/log*.dat")


def work_root() -> Path:
    """Where folders of unfinished labels are made: ``NEAREDGE_WORK``, else one of this user's in the temporary one."""
    default = Path(tempfile.gettempdir()) / f"nearedge-work-{os.getuid()}"
    return Path(os.environ.get(WORK_VARIABLE) or default)


def keep_output(folder: Path, name: str, error: OracleError) -> None:
    """Where programs failed, keep what they read and wrote as text in a scratch folder, and say where in the reason."""
    if error.kind not in _TELLING:
        return
    try:
        written = [path for pattern in _OUTPUT for path in folder.glob(pattern) if path.stat().st_size > 0]
        if written:
            error.add(f"{OUTPUT_IN}{_copy(written, name)}")
    except OSError as problem:
        logger.warning("the output of a program that failed is not kept: %s", problem)


def _copy(written: list[Path], name: str) -> Path:
    """A new folder with the last MiB of each of these files."""
    root = work_root() / "failed"
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    prefix = f"{_stamp(time.time())}-{name}-{socket.gethostname()}-"
    kept = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    for path in written:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_BYTES))
            (kept / path.name).write_bytes(file.read(_MOST_BYTES))
    return kept


def _sweep(root: Path) -> None:
    """Make room for one more, and remove what is too old; their names begin with their times."""
    oldest = _stamp(time.time() - KEPT_DAYS * 86400)
    for number, folder in enumerate(sorted(root.iterdir(), reverse=True), start=1):
        if number >= MOST_KEPT or folder.name < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _stamp(seconds: float) -> str:
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))

"""The processes around the campaigns of the bench: Ray's nodes, and what all of them are told by their environment."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from nearedge.bench.chaos.nodes import KILL

SITE_VARIABLES = ("NEAREDGE_DATABASE", "NEAREDGE_MLFLOW", "NEAREDGE_RUNS", "NEAREDGE_WORK", "RAY_ADDRESS")
"""What a site tells every campaign: not meant for those of the bench."""
MARK_VARIABLE = "NEAREDGE_CHAOS"
"""Environment variable that every process of a run of the bench inherits, with a value of that run alone."""
PATIENCE_S = 60.0
ATTEMPTS = 4
"""How often the nodes are started: Ray gives up after 30 s, which a busy machine may need longer than."""


class RayNodes:
    """A head and another node (`nodes`), as children of this process."""

    def __init__(self, folder: Path, environment: Mapping[str, str], cpus: float) -> None:
        """Start them and wait until they are up. Raises RuntimeError where they do not come up."""
        self.log = folder / "nodes.txt"
        command = [sys.executable, "-m", "nearedge.bench.chaos.nodes", str(cpus)]
        for attempt in range(ATTEMPTS):
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(  # noqa: S603 - our own program
                    command,
                    env=dict(environment),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
            try:
                self.address: str = self._answer()
            except RuntimeError:
                self.stop()
                if attempt + 1 == ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break

    def processes(self) -> list[psutil.Process]:
        """All processes of both nodes: servers, workers, and what they have started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill_other_node(self) -> list[int]:
        """Kill every process of the node that is not the head; returns their numbers."""
        assert self.process.stdin is not None  # noqa: S101 - opened above
        self.process.stdin.write(f"{KILL}\n")
        self.process.stdin.flush()
        numbers: list[int] = self._answer()
        return numbers

    def stop(self) -> None:
        """End both, by force after a while."""
        assert self.process.stdin is not None  # noqa: S101
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for process in [psutil.Process(self.process.pid), *self.processes()]:
                process.kill()
            self.process.wait()

    def _answer(self) -> Any:
        assert self.process.stdout is not None  # noqa: S101
        line = self.process.stdout.readline()
        if not line:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-1000:]
            raise RuntimeError(f"the nodes of Ray have ended: {said}")
        return json.loads(line)


def environment(folder: Path, mark: str) -> dict[str, str]:
    """What all processes of the bench are told: own folders for scratch and for Ray, and the mark."""
    scratch, token = folder / "scratch", folder / "token"
    scratch.mkdir()
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    inherited = {name: value for name, value in os.environ.items() if name not in SITE_VARIABLES}
    return {
        **inherited,
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(scratch),
        "NEAREDGE_SCRATCH": str(scratch),
        "RAY_TMPDIR": str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # servers listen on the loopback interface only
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        MARK_VARIABLE: mark,
    }


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what was started is stopped then."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path is short: names of Ray's sockets in it have 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="ne-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def running(folder: Path, environment: Mapping[str, str], cpus: float) -> Iterator[RayNodes]:
    """The nodes, stopped at the end."""
    nodes = RayNodes(folder, environment, cpus)
    try:
        yield nodes
    finally:
        nodes.stop()

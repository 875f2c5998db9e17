"""A cluster by ``deploy/local`` for tests that need a real one."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "deploy" / "local" / "cluster.py"


def cluster(command: str, state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """One command of ``cluster.py``."""
    return subprocess.run(
        [sys.executable, str(CLUSTER), command, "--state", str(state), *options],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@contextmanager
def running_cluster(folder: Path, nodes: int = 2) -> Iterator[tuple[dict[str, str], Path]]:
    """PostgreSQL, MLflow and Ray; yields the environment of a user, and the state directory. Stops all of it."""
    state = folder / "state"
    started = cluster("up", state, "--nodes", str(nodes), "--cpus", "1", "--runs", str(folder / "runs"))
    assert started.returncode == 0, started.stderr
    try:
        exports = [shlex.split(line)[1] for line in started.stdout.splitlines()]
        yield {**os.environ, **dict(export.split("=", 1) for export in exports)}, state
    finally:
        stopped = cluster("down", state)
    assert stopped.returncode == 0, stopped.stderr


def processes(state: Path) -> dict[str, psutil.Process]:
    """The servers by name."""
    record = json.loads((state / "cluster.json").read_text(encoding="utf-8"))
    return {one["name"]: psutil.Process(one["pid"]) for one in record["processes"]}

"""A real MLflow server that tests start, kill and start again."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests


class Server:
    """`mlflow server` on a free port of this machine, with its own SQLite store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.url = folder, f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, or start it again on the same store, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
                *("--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}"),
                *("--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self.folder,
            # without it six more processes start, for work that is not ours
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        deadline = time.monotonic() + 300  # some ten seconds on a machine with nothing else to do
        while not self.answers():
            assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.3)

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """`kill -9`; does nothing where it is dead."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

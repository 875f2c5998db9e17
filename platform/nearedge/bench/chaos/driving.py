"""``nearedge run`` with the oracle of the bench: ``python -m nearedge.bench.chaos.driving run CONFIG.yaml``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nearedge.bench.chaos.oracle import HOOK, PLAN_VARIABLE, install

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray reads the settings of a job that it submits itself from this environment variable."""


class Driver:
    """The driver of one campaign, started again whenever it was killed."""

    def __init__(self, config: Path, environment: Mapping[str, str]) -> None:
        self.config = config
        self.environment = dict(environment)
        self.log = config.parent / "output.txt"
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Run the command; its output is added to the log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "nearedge.bench.chaos.driving", "run", str(self.config)],
                cwd=self.config.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    def end(self) -> None:
        """Kill it, if it is there."""
        self.process.kill()
        self.process.wait()

    def wait(self, seconds: float) -> int | None:
        """Its exit status; None where it still runs after so long."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        return self.process.returncode


def main() -> None:
    """The program, in a process and on workers that have the oracle of the bench."""
    from nearedge.cli.app import main as program

    install()
    # workers have the environment of their node, not of the driver
    plan = {PLAN_VARIABLE: os.environ[PLAN_VARIABLE]}
    surroundings = {"worker_process_setup_hook": HOOK, "env_vars": plan}
    os.environ[JOB_VARIABLE] = json.dumps({"runtime_env": surroundings})
    program()


if __name__ == "__main__":
    main()

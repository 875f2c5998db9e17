"""What the tests of the program's checks share."""

import os
from pathlib import Path

import psutil
import pytest
import ray

from nearedge.cli.app import main


@pytest.fixture
def refused(capsys):
    """Runs the command, which must fail cleanly without Ray; returns its one line."""

    def run(path: Path, *arguments: str) -> str:
        before = {entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else set()
        with pytest.raises(SystemExit) as exit_status:
            main(["run", str(path), *arguments])
        assert exit_status.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert not ray.is_initialized()
        assert not ray_children()
        if before:  # and nothing is left behind
            assert {entry.name for entry in path.parent.iterdir()} == before
        return lines[0]

    return run


def ray_children() -> list[str]:
    """Ray processes that this process has started."""
    children = psutil.Process(os.getpid()).children(recursive=True)
    return [child.name() for child in children if child.name() in {"raylet", "gcs_server"}]

"""What an actor does before it has work."""

import subprocess
import sys

import pytest

GONE_AND_BACK = """
import os, sys
from pathlib import Path
folder, comes_back = Path(sys.argv[1]), sys.argv[2] == "back"
folder.mkdir()
os.chdir(folder)
os.environ["PWD"] = str(folder)
folder.rmdir()
if comes_back:
    folder.mkdir()
from nearedge_agents.agent import Agent
Agent()
import torch
assert float((torch.ones(64, 64) @ torch.ones(64, 64)).sum()) == 64**3
print(os.getcwd())
"""


@pytest.mark.parametrize("state", ["back", "gone"])
def test_an_actor_starts_where_its_working_directory_was_removed(tmp_path, state):
    folder = tmp_path / "job"
    command = [sys.executable, "-c", GONE_AND_BACK, str(folder), state]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == (str(folder) if state == "back" else "/")

"""What a campaign has left behind that should be gone: processes and scratch."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from nearedge.bench.chaos.cluster import MARK_VARIABLE, RayNodes
from nearedge.bench.chaos.striking import title

ACTOR_TITLES = ("ray::Labeler", "ray::Trainer", "ray::Generator", "ray::Scorer")
PATIENCE_S = 30.0
"""How long the last of them may take to be gone."""
CACHES = ("torchinductor_",)
"""How folders begin that torch keeps in the temporary folder for the next process."""


def living_actors(nodes: RayNodes) -> list[str]:
    """Actors that live though their driver has ended, after some patience."""
    return _patiently(
        lambda: [name for one in nodes.processes() if (name := title(one)).startswith(ACTOR_TITLES)]
    )


def orphans(mark: str) -> list[str]:
    """Processes of this run of the bench that live though all of it has ended, after some patience."""
    return _patiently(lambda: [title(one) for one in psutil.process_iter() if _has_mark(one, mark)])


def scratch_left(folder: Path) -> list[str]:
    """What is in the temporary folder that all processes had."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(CACHES))


def _patiently(look: Callable[[], list[str]]) -> list[str]:
    """What is still found when time is up; nothing as soon as nothing is found."""
    end = time.monotonic() + PATIENCE_S
    while (found := look()) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False  # it has ended, or is somebody else's

"""A world without Ray: whatever the loop waits for is there."""

import pytest
from tests.platform.conductor.fake_world import World

from nearedge.conductor import loop, tasks


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(loop.ray, "wait", lambda refs, num_returns, timeout: (list(refs), []))
    monkeypatch.setattr(loop, "TICK_S", 0.0)
    monkeypatch.setattr(tasks, "PAUSE_S", 0.0)


@pytest.fixture
def make_world(tmp_path):
    """Makes the world of this test; sections of the settings as keywords."""
    worlds = []

    def make(**sections):
        worlds.append(World(tmp_path, **sections))
        return worlds[-1]

    yield make
    for world in worlds:
        world.database.dispose()


@pytest.fixture
def world(make_world):
    """One with the settings as they are."""
    return make_world()

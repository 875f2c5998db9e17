"""What the actors of a campaign are given."""

from pathlib import Path

import pytest

from nearedge.conductor.actors import BACKSTOP, pool_of
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.leftovers import WORK_VARIABLE


def test_unfinished_labels_are_kept_in_the_run_directory(world, monkeypatch):
    context = world.context()

    def folder():
        return pool_of("labeler", context, "").options["runtime_env"]["env_vars"][WORK_VARIABLE]

    monkeypatch.delenv(WORK_VARIABLE, raising=False)
    assert folder() == str(context.config.run_dir.absolute() / "work")
    monkeypatch.setenv(WORK_VARIABLE, "/scratch/kept")
    assert folder() == "/scratch/kept"
    monkeypatch.setenv(WORK_VARIABLE, "kept")
    assert folder() == str(Path.cwd() / "kept")


@pytest.mark.parametrize(("hole", "times"), [("initial-state", 1.0), ("z+1", BACKSTOP)])
def test_a_labeler_that_keeps_its_limit_is_killed_only_well_after_it(make_world, hole, times):
    world = make_world(pools={"labeler": {"task_minutes": 10}, "trainer": {"task_minutes": 10}})
    world.oracle = make_oracle("xtb", {"core_hole": hole})
    limits = [pool_of(name, world.context(), "").limit_s for name in ("labeler", "trainer", "scorer")]
    assert limits == [600.0 * times, 600.0, None]


def test_a_labeler_knows_the_oracles_of_the_campaign(make_world):
    context = make_world(confirm={"name": "xtb", "settings": {"core_hole": "z+1"}}).context()
    hashes = pool_of("labeler", context, "").args[-1]
    assert hashes == [context.oracle.settings_hash, context.confirming.settings_hash]

"""A whole campaign where there is room for one actor only."""

import pytest
from tests.platform.conductor.sessions import assert_complete, run

from nearedge.conductor import balance

NAMES = ("generator", "scorer", "labeler", "trainer")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Pools are looked at after every piece of work."""
    monkeypatch.setattr(balance, "PERIOD_S", 0.0)


@pytest.mark.parametrize("size", [1, 3])
def test_pools_that_take_turns_finish_the_campaign(make_world, size):
    world = make_world(pools={name: {"cpus": 1, "size": size, "max_size": 4} for name in NAMES})
    world.nodes = [{"CPU": 1.0}]
    session, (_, finished) = run(world)
    assert finished
    assert_complete(world)
    assert sum(pool.size for pool in session.pools.values()) == 1
    assert all(pool.given for pool in session.pools.values())
    assert all(pool.most_at_once == 1 for pool in session.pools.values())


def test_a_pool_grows_with_its_queue(make_world):
    world = make_world(pools={"labeler": {"cpus": 1, "size": 1, "max_size": 3}})
    world.nodes = [{"CPU": 8.0}]
    session = world.conductor()
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nearedge_agents.balancing.SETTLE_S", 0.0)
        session.run(lambda: sizes.append(session.pools["labeler"].size))
    assert_complete(world)
    assert (sizes[0], max(sizes)) == (1, 3)
    assert session.pools["labeler"].most_at_once == 3

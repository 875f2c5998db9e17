"""Loop, pools and balance on a Ray of several nodes, which join and are killed while there is work."""

import sys
import time
from collections import deque
from dataclasses import dataclass, field

import pytest
import ray
from ray.cluster_utils import Cluster
from tests.nodes import join

from nearedge.conductor.balance import Balance
from nearedge.conductor.loop import Loop
from nearedge.pools import PoolConfig
from nearedge.raynodes import amounts_of_nodes
from nearedge.room import actor_options
from nearedge_agents.agent import Agent
from nearedge_agents.pool import Done, Pool, Work

# The workers cannot import test modules: the actor's class travels with its code.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.slow


class Sleeper(Agent):
    """Says where it has slept."""

    def __init__(self) -> None:
        pass  # without the base class's import of torch

    def nap(self, seconds: float) -> str:
        time.sleep(seconds)
        return ray.get_runtime_context().get_node_id()


@dataclass
class Naps:
    """A stage of naps: one that is lost goes round again."""

    pool: str
    todo: deque[tuple[int, float]]
    name: str = "naps"
    where: dict[int, str] = field(default_factory=dict)
    """Nap -> node."""
    where_last: str = ""
    lost: int = 0

    @property
    def backlog(self) -> int:
        return len(self.todo)

    def offer(self) -> Work | None:
        if not self.todo:
            return None
        nap = self.todo.popleft()
        return Work("nap", (nap[1],), tag=nap)

    def accept(self, done: Done) -> None:
        if done.lost:
            self.lost += 1
            self.todo.appendleft(done.work.tag)
            return
        assert done.error is None
        number = done.work.tag[0]
        assert number not in self.where, "done twice"
        self.where[number] = self.where_last = done.value


@pytest.fixture
def cluster():
    """A head without CPUs for actors, and what the tests add."""
    cluster = Cluster()
    join(cluster, num_cpus=0, include_dashboard=False)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR", namespace="balance")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def stream(
    stages: list[Naps], configs: dict[str, PoolConfig], until, on_tick=lambda pools: None
) -> dict[str, Pool]:
    """Run until a condition holds; returns the pools, stopped."""
    pools = {name: Pool(name, Sleeper, one.size, actor_options(one)) for name, one in configs.items()}
    balance = Balance(pools, configs, stages, amounts_of_nodes)
    balance.start()
    deadline = time.monotonic() + 300

    def reason() -> str | None:
        assert time.monotonic() < deadline, {name: (p.size, p.free, p.starting) for name, p in pools.items()}
        return "done" if until() else None

    def tick() -> None:
        balance.tick()
        on_tick(pools)

    try:
        Loop(pools, stages, reason, tick).run()
    finally:
        for pool in pools.values():
            pool.stop()
    return pools


def test_a_node_that_joins_is_used_and_the_work_of_a_killed_one_is_done_elsewhere(cluster):
    first = join(cluster, num_cpus=1)
    naps = Naps("labeler", deque((number, 0.3) for number in range(2000)))
    joined, sizes, lost_at = [], [], []

    def tick(pools: dict[str, Pool]) -> None:
        sizes.append(pools["labeler"].size)
        if not joined and len(naps.where) >= 3:
            joined.append(join(cluster, num_cpus=2))
        elif joined and not lost_at and naps.where_last == joined[0].node_id and len(naps.where) > 5:
            joined[0].all_processes["raylet"][0].process.kill()
            lost_at.append(len(naps.where))

    def until() -> bool:
        if naps.lost and sizes[-1] == 1 and naps.where_last == first.node_id:
            naps.todo = deque(list(naps.todo)[:3])
        return bool(naps.lost) and not naps.todo

    stream([naps], {"labeler": PoolConfig(size=3, cpus=1)}, until, tick)
    assert set(naps.where.values()) == {first.node_id, joined[0].node_id}
    assert (sizes[0], max(sizes), sizes[-1]) == (1, 3, 1)
    assert naps.where_last == first.node_id
    assert sorted(naps.where) == list(range(len(naps.where))), (
        "none is missing, those that were lost are not either"
    )


def test_actors_without_work_on_a_killed_node_are_replaced_before_there_is_any(cluster):
    """The head sees the death of a raylet at once; the pool asks every two seconds."""
    _, second = (join(cluster, num_cpus=1) for _ in range(2))
    naps = Naps("labeler", deque())
    killed: list[str] = []
    before: list[str] = []
    replaced: list[str] = []

    def tick(pools: dict[str, Pool]) -> None:
        pool = pools["labeler"]
        if not killed and pool.free == 2:
            before.extend(slot.name for slot in pool._slots)
            second.all_processes["raylet"][0].process.kill()
            join(cluster, num_cpus=1)
            killed.append("second")
        elif killed and not replaced and pool.free == 2:
            replaced.extend({slot.name for slot in pool._slots} - set(before))

    stream([naps], {"labeler": PoolConfig(size=2, cpus=1)}, lambda: bool(replaced), tick)
    assert len(replaced) == 1, "the other one stays"
    assert naps.lost == 0


def test_pools_share_one_cpu_and_all_work_is_done(cluster):
    join(cluster, num_cpus=1)
    stages = [
        Naps(pool, deque([(0, 0.1), (1, 0.1)])) for pool in ("generator", "scorer", "labeler", "trainer")
    ]
    configs = {stage.pool: PoolConfig(size=2, cpus=1) for stage in stages}
    at_once = []

    def tick(pools: dict[str, Pool]) -> None:
        at_once.append(sum(pool.free + len(pool.under_way) for pool in pools.values()))

    stream(stages, configs, lambda: all(len(stage.where) == 2 for stage in stages), tick)
    assert max(at_once) == 1, "actors that were up"
    assert [stage.lost for stage in stages] == [0] * 4


def test_custom_resources_decide_where_actors_are(cluster):
    here = join(cluster, num_cpus=1, resources={"oracle": 2})
    join(cluster, num_cpus=4)
    naps = Naps("labeler", deque((number, 0.05) for number in range(4)))
    config = PoolConfig(size=3, cpus=0.5, resources={"oracle": 1})
    pools = stream([naps], {"labeler": config}, lambda: len(naps.where) == 4)
    assert set(naps.where.values()) == {here.node_id}
    assert pools["labeler"].size == 2, "there are two of it"

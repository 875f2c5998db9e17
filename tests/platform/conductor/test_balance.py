"""Pools resized by nodes and queues, with pools that are made up: time passes as the tests say."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearedge.conductor.balance import BELIEF_S, PATIENCE_S, Balance
from nearedge.pools import PoolConfig
from nearedge_agents.balancing import LINGER_S, TURN_S


@dataclass
class Cluster:
    """One node of so many CPUs: an actor comes up a second after there is room for it."""

    cpus: float
    now: float = 0.0
    pools: dict = field(default_factory=dict)

    @property
    def used(self) -> float:
        return sum(len(actors) * pool.cpus for pool in self.pools.values() for actors in [pool.actors])

    def nodes(self) -> list[dict[str, float]]:
        return [{"CPU": self.cpus}]


@dataclass
class TimedPool:
    """Actors with the seconds of work that each has left; those asked for come up where there is room."""

    cluster: Cluster
    name: str
    size: int
    cpus: float
    actors: list[float] = field(default_factory=list)
    done: int = 0
    sizes: list[int] = field(default_factory=list)

    def start(self) -> None:
        self.cluster.pools[self.name] = self

    def resize(self, size: int) -> None:
        self.size = size
        self.sizes.append(size)
        while len(self.actors) > size and 0.0 in self.actors:
            self.actors.remove(0.0)

    @property
    def leaving(self) -> int:
        return max(len(self.actors) - self.size, 0)

    @property
    def starting(self) -> int:
        return max(self.size - len(self.actors), 0)

    @property
    def under_way(self) -> list[float]:
        return [left for left in self.actors if left > 0]

    @property
    def free(self) -> int:
        return 0 if self.leaving else self.actors.count(0.0)

    def second(self) -> None:
        """One second passes; who is done and not wanted any more leaves, and who has room comes."""
        before = len(self.under_way)
        self.actors = [max(left - 1.0, 0.0) for left in self.actors]
        self.done += before - len(self.under_way)
        while len(self.actors) > self.size and 0.0 in self.actors:
            self.actors.remove(0.0)
        while self.starting and self.cluster.used + self.cpus <= self.cluster.cpus + 1e-9:
            self.actors.append(0.0)


@dataclass
class Queue:
    """A stage whose pieces of work take so many seconds each."""

    pool: str
    todo: deque[float] = field(default_factory=deque)
    name: str = "queue"

    @property
    def backlog(self) -> int:
        return len(self.todo)


@dataclass
class World:
    """A cluster, its pools and what they have to do."""

    cluster: Cluster
    pools: dict[str, TimedPool]
    queues: dict[str, Queue]
    balance: Balance

    def second(self) -> None:
        for queue in self.queues.values():
            pool = self.pools[queue.pool]
            while queue.todo and pool.free:
                pool.actors[pool.actors.index(0.0)] = queue.todo.popleft()
        self.balance.tick()
        for pool in self.pools.values():
            pool.second()
        self.cluster.now += 1.0

    def seconds(self, count: float) -> None:
        for _ in range(int(count)):
            self.second()

    @property
    def sizes(self) -> dict[str, int]:
        return {name: pool.size for name, pool in self.pools.items()}


def world(cpus: float, told: list | None = None, **pools: dict) -> World:
    cluster = Cluster(cpus)
    configs = {name: PoolConfig(**{"cpus": 1.0, **given}) for name, given in pools.items()}
    made = {name: TimedPool(cluster, name, one.size, one.cpus) for name, one in configs.items()}
    queues = {name: Queue(name) for name in pools}

    def tell(kind: str, **data) -> None:
        if told is not None:
            told.append((kind, data))

    balance = Balance(made, configs, list(queues.values()), cluster.nodes, tell, clock=lambda: cluster.now)
    balance.start()
    return World(cluster, made, queues, balance)


def test_what_fits_is_started_and_nothing_is_told():
    told = []
    some = world(4, told, labeler={"size": 2}, trainer={"size": 2})
    some.seconds(3)
    assert some.sizes == {"labeler": 2, "trainer": 2}
    assert told == []


def test_what_does_not_fit_is_told_with_what_was_wanted():
    told = []
    world(2, told, labeler={"size": 3}, trainer={"size": 1})
    sizes, wanted = {"labeler": 1, "trainer": 1}, {"labeler": 3, "trainer": 1}
    assert told == [("pools sized", {"nodes": 1, "sizes": sizes, "wanted": wanted})]


def test_labelers_go_first_on_a_machine_for_one():
    assert world(1, generator={}, scorer={}, trainer={}, labeler={}).sizes == {
        "generator": 0,
        "scorer": 0,
        "trainer": 0,
        "labeler": 1,
    }


def test_an_actor_that_starts_keeps_its_place_while_its_work_waits():
    some = world(1, labeler={}, trainer={})
    some.queues["labeler"].todo.extend([1.0] * 3)
    some.queues["trainer"].todo.append(1.0)
    some.seconds(20)
    assert (some.pools["labeler"].done, some.pools["trainer"].done) == (3, 1)
    assert some.pools["labeler"].sizes == [0], "it left when its work was done, not before"


def test_a_queue_makes_its_pool_grow_and_its_end_lets_it_shrink():
    some = world(4, labeler={"size": 1, "max_size": 4}, trainer={"size": 2})
    some.queues["labeler"].todo.extend([30.0] * 8)
    some.seconds(20)
    assert some.sizes == {"labeler": 3, "trainer": 1}, "an idle trainer gives its place"
    some.queues["trainer"].todo.extend([10.0, 10.0])
    some.seconds(60)
    assert some.pools["trainer"].done == 2, "and has it back when it has work"
    some.seconds(200 + LINGER_S)
    assert some.pools["labeler"].done == 8
    assert some.sizes == {"labeler": 1, "trainer": 2}


def test_a_busy_actor_is_never_ended():
    some = world(2, labeler={"size": 1, "max_size": 2}, trainer={"size": 1})
    some.queues["labeler"].todo.extend([100.0] * 2)
    some.seconds(10)
    some.queues["trainer"].todo.append(5.0)
    some.seconds(300)
    assert (some.pools["labeler"].done, some.pools["trainer"].done) == (2, 1)


def test_a_node_that_joins_is_used_and_one_that_leaves_is_missed():
    told = []
    some = world(1, told, labeler={"size": 2}, trainer={"size": 1})
    some.balance.nodes = lambda: [{"CPU": 1.0}] * 3
    some.cluster.cpus = 3.0
    some.seconds(2)
    assert some.sizes == {"labeler": 2, "trainer": 1}
    some.balance.nodes = lambda: [{"CPU": 1.0}] * 2
    some.seconds(2)
    assert some.sizes == {"labeler": 1, "trainer": 1}
    assert [data["nodes"] for _, data in told] == [1, 3, 2]


def test_what_others_use_of_a_shared_cluster_is_believed_after_a_while():
    some = world(4, labeler={"size": 2}, trainer={"size": 2})
    some.balance.is_shared = True  # of 4 CPUs others use one
    some.cluster.cpus, some.balance.nodes = 3.0, lambda: [{"CPU": 4.0}]
    some.seconds(PATIENCE_S - 5)
    assert sum(some.sizes.values()) == 4
    some.seconds(10)
    assert sum(some.sizes.values()) == 3
    some.seconds(10)
    assert sum(len(pool.actors) for pool in some.pools.values()) == 3
    some.seconds(BELIEF_S)
    assert sum(some.sizes.values()) == 4, "and asked for again later"


def test_where_all_are_slow_to_start_they_are_not_given_up_together():
    some = world(4, labeler={}, scorer={}, generator={}, trainer={})
    some.balance.is_shared = True
    some.cluster.cpus, some.balance.nodes = 0.0, lambda: [{"CPU": 4.0}]
    some.seconds(PATIENCE_S + 5)
    assert sum(some.sizes.values()) == 3
    some.seconds(20 * PATIENCE_S)
    assert sum(some.sizes.values()) >= 1, "somebody goes on asking"


def test_pools_take_turns_on_one_cpu_without_starting_a_process_for_every_piece_of_work():
    some = world(1, labeler={}, scorer={}, generator={}, trainer={})
    for queue in some.queues.values():
        queue.todo.extend([5.0] * 20)
    some.seconds(20 * 5 * 4 * 1.5)
    assert {name: pool.done for name, pool in some.pools.items()} == dict.fromkeys(some.pools, 20)
    starts = sum(pool.sizes.count(1) for pool in some.pools.values())
    assert starts <= 20 * 5 * 4 / TURN_S * 1.5


@pytest.mark.parametrize("seconds", [1.0, 300.0])
def test_a_chain_of_work_reaches_its_end_on_one_cpu(seconds):
    """Each piece of work asks for one of the next pool, as candidates do: nobody waits for ever."""
    some = world(1, generator={}, scorer={}, labeler={"size": 2}, trainer={"size": 2})
    names = ["generator", "scorer", "labeler", "trainer"]
    some.queues["generator"].todo.extend([seconds] * 4)
    passed = dict.fromkeys(names, 0)
    for _ in range(int(16 * (seconds + 3 * TURN_S))):
        some.second()
        for name, after in zip(names, [*names[1:], None], strict=True):
            new = some.pools[name].done - passed[name]
            passed[name] += new
            if after is not None:
                some.queues[after].todo.extend([seconds] * new)
    assert passed == dict.fromkeys(names, 4)


@settings(deadline=None, max_examples=60)
@given(
    cpus=st.sampled_from([1.0, 2.0, 3.0]),
    pools=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.integers(0, 3),
            st.sampled_from([0.3, 1.0]),
            st.lists(st.integers(1, 90), max_size=6),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_all_work_is_done_whatever_the_pools_ask(cpus, pools):
    names = ["labeler", "trainer", "scorer", "generator"]
    some = world(
        cpus,
        **{
            name: {"size": size, "max_size": size + more, "cpus": asks}
            for name, (size, more, asks, _) in zip(names, pools, strict=False)
        },
    )
    for name, (_, _, _, todo) in zip(names, pools, strict=False):
        some.queues[name].todo.extend(map(float, todo))
    total = sum(sum(todo) for *_, todo in pools)
    some.seconds(total + 4 * TURN_S + 60)
    assert {name: some.pools[name].done for name in some.pools} == {
        name: len(todo) for name, (*_, todo) in zip(names, pools, strict=False)
    }
    assert some.cluster.used <= cpus + 1e-9

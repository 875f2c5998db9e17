"""How many actors each pool is to have: cases by hand, and what must hold of every case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearedge_agents.balancing import LINGER_S, SETTLE_S, TURN_S, Demand, Watch, plan


def demand(name="p", cpus=1.0, size=1, most=None, **facts) -> Demand:
    return Demand(name, {"CPU": cpus}, size, size if most is None else most, **facts)


def cpus(*amounts: float) -> list[dict[str, float]]:
    return [{"CPU": amount} for amount in amounts]


def test_every_pool_gets_its_size_where_there_is_room():
    pools = [demand("a", size=2), demand("b", 0.5, size=3)]
    assert plan(cpus(4), pools) == {"a": 2, "b": 3}
    assert plan(cpus(2, 2), pools) == {"a": 2, "b": 3}


def test_an_actor_is_not_split_over_nodes():
    assert plan(cpus(1, 1, 1), [demand("a", cpus=2.0), demand("b", size=5)]) == {"a": 0, "b": 3}


def test_too_little_room_is_shared_one_by_one():
    assert plan(cpus(5), [demand("a", size=4), demand("b", size=2), demand("c", size=4)]) == {
        "a": 2,
        "b": 2,
        "c": 1,
    }


def test_small_actors_go_where_they_leave_room_for_large_ones():
    pools = [demand("small", 0.5), demand("large", 2.0)]
    assert plan(cpus(2, 1), pools) == {"small": 1, "large": 1}


def test_all_that_is_asked_must_be_there():
    pools = [Demand("gpu", {"CPU": 1, "GPU": 0.5}, 4, 4), demand("cpu", size=8)]
    assert plan([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0}], pools) == {"gpu": 2, "cpu": 6}


def test_a_pool_whose_work_waits_grows_and_no_further_than_it_may():
    waiting = demand("a", size=1, most=4, held=1, busy=1, waiting=9)
    assert plan(cpus(8), [waiting, demand("b")]) == {"a": 4, "b": 1}
    assert plan(cpus(3), [waiting, demand("b")]) == {"a": 2, "b": 1}


def test_it_grows_by_what_waits():
    assert plan(cpus(8), [demand("a", most=6, held=1, busy=1, waiting=2)]) == {"a": 3}


def test_an_idle_pool_gives_all_but_one_actor_to_work_that_waits():
    waiting = demand("a", size=2, most=4, held=2, busy=2, waiting=5)
    idle, busy = demand("b", size=2, held=2), demand("b", size=2, held=2, busy=2)
    assert plan(cpus(4), [waiting, idle]) == {"a": 3, "b": 1}
    assert plan(cpus(4), [waiting, busy]) == {"a": 2, "b": 2}


def test_what_it_grew_by_goes_after_a_while_or_where_it_is_wanted():
    grown = {"size": 1, "most": 4, "held": 4}
    assert plan(cpus(4), [demand("a", **grown)]) == {"a": 1}
    assert plan(cpus(4), [demand("a", lingers=True, **grown)]) == {"a": 4}
    other = demand("b", size=1, most=2, held=1, busy=1, waiting=1)
    assert plan(cpus(5), [demand("a", lingers=True, **grown), other]) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("a", "b", "first"),
    [
        ({}, {}, "a"),  # the order that is given
        ({}, {"held": 1}, "b"),  # who has it keeps it
        ({"waiting": 1}, {"held": 1}, "a"),  # unless it idles while work waits
        ({"waiting": 1}, {"held": 1, "busy": 1}, "b"),  # it works
        ({"waiting": 1, "starving_s": TURN_S}, {"held": 1, "busy": 1}, "a"),  # it has worked for long enough
        ({"waiting": 1, "starving_s": TURN_S}, {"held": 1, "busy": 1, "turn_s": 1.0}, "b"),  # its turn began
        (
            {"waiting": 1, "starving_s": TURN_S},
            {"waiting": 1, "starving_s": 2 * TURN_S},
            "b",
        ),  # longest first
    ],
)
def test_whose_turn_it_is_where_there_is_room_for_one(a, b, first):
    assert plan(cpus(1), [demand("a", **a), demand("b", **b)]) == {"a": 0, "b": 0, first: 1}


def test_what_others_use_is_not_given():
    assert plan(cpus(2, 2), [demand("a", size=4)], elsewhere=[{"CPU": 1}, {"CPU": 1}]) == {"a": 2}


def test_somebody_always_asks():
    starving = demand("b", waiting=1, starving_s=TURN_S)
    assert plan([], [demand("a"), starving]) == {"a": 0, "b": 1}
    assert plan(cpus(1), [demand("a")], elsewhere=[{"CPU": 1}]) == {"a": 1}


AMOUNTS = st.sampled_from([0.25, 0.3, 0.5, 1.0, 2.0])


@st.composite
def demands(draw) -> list[Demand]:
    found = []
    for index in range(draw(st.integers(1, 4))):
        asks = {"CPU": draw(AMOUNTS)} | ({"GPU": 0.5} if draw(st.booleans()) else {})
        size = draw(st.integers(1, 4))
        most, held = size + draw(st.integers(0, 4)), draw(st.integers(0, 6))
        found.append(
            Demand(
                f"p{index}",
                asks,
                size,
                most,
                held=held,
                busy=draw(st.integers(0, held)),
                waiting=draw(st.integers(0, 5)),
                starving_s=draw(st.sampled_from([0.0, 30.0, 90.0])),
                turn_s=draw(st.sampled_from([1.0, 90.0])),
                lingers=draw(st.booleans()),
            )
        )
    return found


NODES = st.lists(
    st.builds(lambda cpu, gpu: {"CPU": cpu, "GPU": gpu}, st.sampled_from([1.0, 2.0, 4.0]), st.integers(0, 1)),
    min_size=1,
    max_size=4,
)


@given(NODES, demands())
def test_a_plan_is_within_its_limits(nodes, pools):
    given_ = plan(nodes, pools)
    assert set(given_) == {pool.name for pool in pools}
    assert all(0 <= given_[pool.name] <= pool.most for pool in pools)
    for key in ("CPU", "GPU"):
        used = sum(given_[pool.name] * pool.asks.get(key, 0) for pool in pools)
        alone = [pool for pool in pools if given_[pool.name]]
        hopeless = len(alone) == 1 and given_[alone[0].name] == 1  # the one that goes on asking
        assert used <= sum(node[key] for node in nodes) + 1e-5 or hopeless


@given(NODES, demands())
def test_room_is_not_left_while_work_waits(nodes, pools):
    """A node of its own for everything that is asked: every pool has what it has a right to and what it needs."""
    ample = [{"CPU": 64.0, "GPU": 64.0}, *nodes]
    given_ = plan(ample, pools)
    assert all(given_[pool.name] >= max(pool.size, pool.needs) for pool in pools)


@given(NODES, demands())
def test_another_plan_from_the_same_facts_is_the_same(nodes, pools):
    assert plan(nodes, pools) == plan([dict(node) for node in nodes], list(pools))


def test_a_watch_tells_how_long_things_last():
    watch = Watch()
    watch.look(0.0, waiting=2, busy=1, idle=0)
    assert not watch.waits(SETTLE_S - 1)
    assert watch.waits(SETTLE_S)
    assert watch.starving_s(9.0) == 0.0
    assert watch.turn_s(9.0) == 9.0
    assert watch.lingers(LINGER_S * 2)
    watch.look(10.0, waiting=0, busy=0, idle=1)
    assert not watch.waits(10.0 + SETTLE_S)
    assert watch.turn_s(11.0) == float("inf")
    assert watch.lingers(10.0 + LINGER_S - 1)
    assert not watch.lingers(10.0 + LINGER_S)
    watch.look(20.0, waiting=1, busy=0, idle=0)
    assert watch.starving_s(50.0) == 30.0
    watch.look(60.0, waiting=1, busy=1, idle=0)
    assert watch.starving_s(70.0) == 0.0

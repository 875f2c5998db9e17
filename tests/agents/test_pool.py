"""A pool on real Ray: busy time, errors, and actors that die."""

import os
import signal
import sys
import time

import pytest
import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError
from tests.agents.tending import wait_for

from nearedge_agents.agent import Agent
from nearedge_agents.pool import GET_S, AnswerLostError, Done, Pool, Work

# The workers cannot import test modules: the actor's class travels with its code.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("ray_session")


class Clerk(Agent):
    """Does what the tests need."""

    def __init__(self, greeting: str = "hello") -> None:
        # Without the base class's import of torch: these actors start in a second.
        if greeting == "broken":
            raise ValueError("cannot be made")
        if greeting == "late":
            time.sleep(1.0)
        if greeting.endswith(".claim"):  # one succeeds, and takes longer than those that fail
            try:
                os.close(os.open(greeting, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                raise ValueError("no such program here") from None
            time.sleep(2.0)
        self.greeting = greeting

    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"

    def nap(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def spin(self, seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def complain(self) -> None:
        raise KeyError("nothing there")

    def resign(self) -> int:
        self.leaves = True
        return os.getpid()

    def vanish(self) -> None:
        os._exit(1)


def started(*args, size: int = 1, **more) -> Pool:
    """A pool of clerks that are up."""
    pool = Pool("clerk", Clerk, size, {"num_cpus": 0}, args, **more)
    pool.start()
    return wait_for(pool, size)


@pytest.fixture
def pool():
    """Two clerks."""
    pool = started(size=2)
    yield pool
    pool.stop()


def answer(pool: Pool, timeout: float = 30.0) -> Done:
    """The next answer."""
    ready, _ = ray.wait(pool.refs, num_returns=1, timeout=timeout)
    assert ready, "no answer"
    return pool.collect(ready[0])


def ask(pool: Pool, method: str, *args) -> Done:
    """One question, one answer."""
    pool.submit(Work(method, args, tag=method))
    return answer(pool)


def test_an_answer_knows_its_work(pool):
    work = Work("greet", ("Ada",), tag=("any", 3))
    pool.submit(work)
    done = answer(pool)
    assert done.work is work
    assert (done.value, done.error, done.lost) == ("hello Ada", None, False)


def test_actors_are_free_until_they_have_work(pool):
    assert pool.free == 2
    assert pool.under_way == []
    works = [Work("nap", (0.2,), tag=index) for index in range(2)]
    for work in works:
        pool.submit(work)
    assert pool.free == 0
    assert pool.under_way == works
    with pytest.raises(RuntimeError, match="no free actor"):
        pool.submit(Work("nap", (0,), tag=2))
    pids = {answer(pool).value for _ in works}
    assert len(pids) == 2
    assert pool.free == 2
    assert pool.refs == []


def test_an_error_of_the_work_comes_back_as_itself(pool):
    done = ask(pool, "complain")
    assert isinstance(done.error, KeyError)
    assert not done.lost
    assert ask(pool, "greet", "Ada").value == "hello Ada"


def test_busy_time_is_the_time_with_work(pool):
    ask(pool, "greet", "wake up")
    pool.usage()
    started = time.monotonic()
    done = ask(pool, "nap", 0.5)
    assert done.error is None
    time.sleep(0.5)
    usage = pool.usage()
    wall = time.monotonic() - started
    assert usage.busy == pytest.approx(0.5, abs=0.2)
    assert usage.capacity == pytest.approx(2 * wall, abs=0.05)
    assert usage.tasks == 1
    assert usage.cpu < 0.2


def test_an_actor_has_no_work_before_its_process_is_up():
    pool = Pool("clerk", Clerk, 1, {"num_cpus": 0}, ("late",))
    pool.start()
    pool.tend()
    assert (pool.free, pool.starting) == (0, 1)
    with pytest.raises(RuntimeError, match="no free actor"):
        pool.submit(Work("nap", (0.2,), tag=None))
    wait_for(pool, 1)
    starting = pool.usage()
    assert (starting.busy, starting.tasks) == (0, 0)
    assert starting.capacity > 0
    pool.stop()


def test_upkeep_is_not_busy_time(pool):
    ask(pool, "greet", "wake up")
    pool.usage()
    pool.submit(Work("nap", (0.4,), tag=None, upkeep=True))
    time.sleep(0.2)
    first = pool.usage()
    answer(pool)
    second = pool.usage()
    assert (first.busy, second.busy, second.tasks) == (0, 0, 0)


def test_work_under_way_counts_and_is_not_counted_twice(pool):
    ask(pool, "greet", "wake up")
    pool.usage()
    started = time.monotonic()
    pool.submit(Work("nap", (0.6,), tag=None))
    time.sleep(0.3)
    first = pool.usage()
    answer(pool)
    busy = time.monotonic() - started
    second = pool.usage()
    assert first.busy == pytest.approx(0.3, abs=0.1)
    assert first.tasks == 0
    assert first.busy + second.busy == pytest.approx(busy, abs=0.1)
    assert second.tasks == 1
    assert pool.usage().busy == 0


def test_cpu_seconds_are_those_of_the_process(pool):
    ask(pool, "greet", "wake up")
    pool.usage()
    ask(pool, "spin", 0.3)
    assert pool.usage().cpu == pytest.approx(0.3, abs=0.1)


def test_an_actor_that_exits_is_lost_and_replaced(pool):
    done = ask(pool, "vanish")
    assert done.lost
    assert isinstance(done.error, RayActorError)
    assert pool.free == 1
    wait_for(pool, 2)
    for _ in range(2):
        pool.submit(Work("greet", ("again",), tag=None))
    assert [answer(pool).value for _ in range(2)] == ["hello again"] * 2


def test_an_actor_that_is_killed_is_lost_and_replaced_by_one_like_it():
    pool = started("bonjour")
    pid = ask(pool, "nap", 0).value
    pool.submit(Work("nap", (60,), tag="long"))
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    done = answer(pool)
    assert done.lost
    assert done.work.tag == "long"
    wait_for(pool, 1)
    assert ask(pool, "greet", "Ada").value == "bonjour Ada"
    assert ask(pool, "nap", 0).value != pid
    pool.stop()


def test_an_actor_that_is_killed_without_work_is_missed_and_replaced(pool, caplog):
    pids = {done.value for done in (ask(pool, "nap", 0), ask(pool, "nap", 0))}
    os.kill(pids.pop(), signal.SIGKILL)
    deadline = time.monotonic() + 30
    with caplog.at_level("WARNING"):
        while "actor lost without work" not in caplog.text:
            assert time.monotonic() < deadline
            pool.tend()
            time.sleep(0.05)
    wait_for(pool, 2)
    assert [ask(pool, "greet", "Ada").lost for _ in range(4)] == [False] * 4


def test_an_actor_that_dies_at_work_while_it_is_asked_is_lost_once(pool):
    pool._pulse_at = 0.0
    pool.tend()  # asks
    pid = ask(pool, "nap", 0).value
    pool.submit(Work("nap", (60,), tag="long"))
    os.kill(pid, signal.SIGKILL)
    assert answer(pool).lost
    pool._pulse_at = 0.0
    wait_for(pool, 2)


@pytest.mark.parametrize("error", [GetTimeoutError("timed out"), ObjectLostError("ab", None, "here")])
def test_an_answer_that_does_not_come_counts_as_a_lost_actor(pool, monkeypatch, error):
    """Not as work that took too long: that would be given three times as long."""
    get, asked = ray.get, []

    def once(ref, *, timeout):
        asked.append(timeout)
        if len(asked) == 1:
            raise error
        return get(ref, timeout=timeout)

    work = Work("nap", (0.1,), tag="nap")
    pool.submit(work)
    monkeypatch.setattr(ray, "get", once)
    done = answer(pool)
    assert asked == [GET_S]
    assert (done.work, done.lost, bool(done.actor)) == (work, True, True)
    assert isinstance(done.error, AnswerLostError)
    assert not isinstance(done.error, TimeoutError)
    wait_for(pool, 2)
    assert ask(pool, "greet", "Ada").value == "hello Ada"


def test_an_actor_that_leaves_is_replaced_after_pauses_that_grow(monkeypatch):
    monkeypatch.setattr("nearedge_agents.pool.AGAIN_S", 0.1)
    pool = started(_pause_s=0.1)
    left = []
    for _ in range(2):
        done = ask(pool, "resign")
        assert (done.lost, done.leaves, pool.free, pool.starting) == (False, True, 0, 0)
        left.append((done.value, pool._pause_s))
        wait_for(pool, 1)
    assert left[0][0] != left[1][0]
    assert [pause for _, pause in left] == [0.1, 0.2]
    pool.stop()


def test_an_actor_that_hangs_is_ended_and_replaced():
    pool = started(limit_s=0.5)
    pid = ask(pool, "nap", 0).value
    pool.submit(Work("nap", (60,), tag="long"))
    pool.tend()
    assert not ray.wait(pool.refs, timeout=0.3)[0]
    time.sleep(0.4)
    pool.tend()
    done = answer(pool)
    assert done.lost
    assert str(done.error) == "ended after more than 0.5 s, the limit of pool clerk"
    assert done.actor
    wait_for(pool, 1)
    assert ask(pool, "nap", 0).value != pid
    pool.stop()


def test_the_time_that_an_actor_takes_to_start_does_not_count():
    pool = started("late", limit_s=0.5)
    pool.submit(Work("vanish", (), tag="dies"))
    assert answer(pool).lost
    wait_for(pool, 1)
    pool.submit(Work("nap", (0.1,), tag="short"))
    pool.tend()
    assert not answer(pool).lost
    pool.stop()


def test_an_actor_that_cannot_be_made_is_an_error():
    """Another one would be no better: all that were asked for have failed."""
    pool = Pool("clerk", Clerk, 2, {"num_cpus": 0}, ("broken",))
    pool.start()
    with pytest.raises(RayActorError, match="cannot be made"):
        wait_for(pool, 1)
    assert pool.starting == 0
    pool.stop()


def test_a_pool_for_which_no_actor_can_be_made_any_more_is_an_error(tmp_path, monkeypatch):
    """One was up, and since then none could be made for long: nobody would do its work."""
    monkeypatch.setattr("nearedge_agents.pool.AGAIN_S", 0.1)
    monkeypatch.setattr("nearedge_agents.pool.FORGOTTEN_S", 0.5)
    pool = Pool("clerk", Clerk, 1, {"num_cpus": 0}, (str(tmp_path / "one.claim"),))
    pool.start()
    wait_for(pool, 1)
    ray.kill(pool._slots[0].actor)

    def tend_for_a_minute():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pool.tend()
            time.sleep(0.05)

    with pytest.raises(RayActorError, match="no such program here"):
        tend_for_a_minute()
    pool.stop()


def test_actors_that_cannot_be_made_are_asked_for_again_while_another_is_up_or_starting(
    tmp_path, monkeypatch, caplog
):
    """Something is missing on one node: the others go on."""
    monkeypatch.setattr("nearedge_agents.pool.AGAIN_S", 0.1)
    claim = tmp_path / "one.claim"
    pool = Pool("clerk", Clerk, 2, {"num_cpus": 0}, (str(claim),), _pause_s=0.1)
    pool.start()
    told = "actor could not be made"
    with caplog.at_level("WARNING"):
        wait_for(pool, 1)
        deadline = time.monotonic() + 60
        while caplog.text.count(told) < 3:
            assert time.monotonic() < deadline
            pool.tend()
            time.sleep(0.05)
    reasons = {record.data["error"] for record in caplog.records if record.message == told}
    assert reasons == {"ValueError: no such program here"}
    assert pool._pause_s == pytest.approx(0.4)
    assert pool.free == 1
    claim.unlink()  # it is there now
    wait_for(pool, 2)
    pool.stop()


def test_a_larger_size_brings_actors_and_a_smaller_one_ends_those_without_work(pool):
    pool.resize(3)
    wait_for(pool, 3)
    pool.submit(Work("nap", (0.5,), tag="kept"))
    pool.resize(1)
    assert (pool.free, pool.leaving, len(pool.under_way)) == (0, 0, 1)
    assert answer(pool).error is None
    assert pool.free == 1


def test_an_actor_with_work_leaves_after_it_and_may_be_kept_meanwhile(pool):
    for _ in range(2):
        pool.submit(Work("nap", (0.5,), tag=None))
    pool.resize(0)
    assert pool.leaving == 2
    pool.resize(1)
    assert (pool.leaving, pool.starting) == (1, 0)
    assert [answer(pool).error for _ in range(2)] == [None, None]
    assert (pool.free, pool.leaving) == (1, 0)


def test_actors_that_nobody_has_room_for_are_asked_for_and_taken_back():
    pool = Pool("clerk", Clerk, 1, {"num_cpus": 2})  # of the two that there are
    pool.start()
    wait_for(pool, 1)
    pool.resize(2)
    pool.tend()
    assert (pool.free, pool.starting) == (1, 1)
    assert ask(pool, "greet", "Ada").value == "hello Ada"
    pool.resize(1)
    assert (pool.free, pool.starting) == (1, 0)
    pool.stop()


def test_capacity_follows_the_size(pool):
    pool.usage()
    started_at = time.monotonic()
    time.sleep(0.2)
    pool.resize(0)
    seconds = time.monotonic() - started_at
    time.sleep(0.3)
    assert pool.usage().capacity == pytest.approx(2 * seconds, abs=0.1)


def test_stopping_ends_the_processes():
    pool = started()
    pid = ask(pool, "nap", 0).value
    pool.submit(Work("nap", (60,), tag=None))
    pool.stop()
    assert pool.refs == []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.1)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

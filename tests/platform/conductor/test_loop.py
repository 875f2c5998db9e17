"""The loop with made-up stages: order, errors, draining."""

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.platform.conductor.fake_world import FakePool

from nearedge.conductor import loop as loop_module
from nearedge.conductor.loop import Loop
from nearedge_agents.pool import Done, Work


@dataclass
class ListStage:
    """Offers what is in a list and keeps the answers."""

    name: str
    pool: str
    todo: deque[str]
    answers: list[Done] = field(default_factory=list)

    def offer(self) -> Work | None:
        return Work("do", (self.todo.popleft(),), tag=self.name) if self.todo else None

    def accept(self, done: Done) -> None:
        self.answers.append(done)


def echo(work: Work) -> str:
    return work.args[0]


def run(stages, pools, until):
    """Run until a condition holds; returns how many ticks it took."""
    ticks = []
    loop = Loop(pools, stages, lambda: "done" if until() else None, lambda: ticks.append(1))
    assert loop.run() == "done"
    return len(ticks)


def test_stages_of_a_pool_are_served_in_order_of_urgency():
    pool = FakePool("p", 1, echo)
    urgent = ListStage("urgent", "p", deque("ab"))
    other = ListStage("other", "p", deque("xy"))
    run([urgent, other], {"p": pool}, lambda: len(other.answers) == 2)
    assert [work.args[0] for work in pool.given] == ["a", "b", "x", "y"]


def test_urgent_work_that_comes_late_goes_first():
    pool = FakePool("p", 1, echo)
    urgent = ListStage("urgent", "p", deque())
    other = ListStage("other", "p", deque("xyz"))

    def until() -> bool:
        if len(other.answers) == 1 and not urgent.answers:
            urgent.todo.append("a")
        return len(other.answers) == 3

    run([urgent, other], {"p": pool}, until)
    assert [work.args[0] for work in pool.given][:3] == ["x", "a", "y"]


def test_answers_reach_the_stage_that_asked():
    pools = {"p": FakePool("p", 2, echo), "q": FakePool("q", 1, str.upper)}
    pools["q"].answer = lambda work: work.args[0].upper()
    first, second = ListStage("first", "p", deque("abc")), ListStage("second", "q", deque("de"))
    third = ListStage("third", "p", deque("f"))
    run([first, second, third], pools, lambda: len(first.answers + second.answers + third.answers) == 6)
    assert sorted(done.value for done in first.answers) == ["a", "b", "c"]
    assert [done.value for done in second.answers] == ["D", "E"]
    assert [done.value for done in third.answers] == ["f"]


def test_every_free_actor_gets_work_at_once():
    pool = FakePool("p", 3, echo)
    stage = ListStage("s", "p", deque("abcde"))
    assert run([stage], {"p": pool}, lambda: len(stage.answers) == 5) == 3, "two, and one that ends it"


def test_an_error_of_the_work_reaches_the_stage_not_the_loop():
    def fail(work: Work) -> None:
        raise KeyError("bad")

    stage = ListStage("s", "p", deque("a"))
    run([stage], {"p": FakePool("p", 1, fail)}, lambda: bool(stage.answers))
    assert isinstance(stage.answers[0].error, KeyError)


def test_an_error_of_a_stage_leaves_the_loop():
    class Broken(ListStage):
        def accept(self, done: Done) -> None:
            raise RuntimeError("the stage broke")

    with pytest.raises(RuntimeError, match="the stage broke"):
        run([Broken("s", "p", deque("a"))], {"p": FakePool("p", 1, echo)}, lambda: False)


def test_a_reason_at_the_start_dispatches_nothing():
    pool = FakePool("p", 1, echo)
    run([ListStage("s", "p", deque("a"))], {"p": pool}, lambda: True)
    assert pool.given == []


def test_draining_takes_what_is_under_way_and_adds_nothing():
    pools = {"p": FakePool("p", 1, echo), "q": FakePool("q", 1, echo)}
    first, second = ListStage("s", "p", deque("ab")), ListStage("t", "q", deque("c"))
    ticks = []
    loop = Loop(pools, [first, second], lambda: None, lambda: ticks.append(1))
    loop._dispatch(loop._offers())
    assert loop.drain(5.0, lambda pool, work: pool == "p")
    assert [done.value for done in first.answers] == ["a"]
    assert list(first.todo) == ["b"]


def test_draining_gives_up_in_the_end(monkeypatch):
    monkeypatch.setattr(loop_module.ray, "wait", lambda refs, num_returns, timeout: ([], list(refs)))
    loop = Loop({"p": FakePool("p", 1, echo)}, [ListStage("s", "p", deque("a"))], lambda: None, lambda: None)
    loop._dispatch(loop._offers())
    assert not loop.drain(0.05, lambda pool, work: True)


def test_actors_get_work_once_what_was_stored_of_it_can_be_found():
    """What stages write in a round is stored together, answers and new work; only then is the work given."""
    order = []
    pool = FakePool("p", 1, echo)
    submit = pool.submit

    class Stage(ListStage):
        def offer(self):
            work = super().offer()
            if work is not None:
                order.append(f"offer {work.args[0]}")
            return work

        def accept(self, done):
            super().accept(done)
            order.append(f"accept {done.value}")

    @contextmanager
    def joined():
        yield
        order.append("stored")

    def given(work):
        order.append(f"give {work.args[0]}")
        submit(work)

    pool.submit = given
    stage = Stage("s", "p", deque("ab"))

    def reason():
        return "done" if len(stage.answers) == 2 else None

    loop = Loop({"p": pool}, [stage], reason, lambda: None, joined=joined)
    loop.run()
    inner = [entry for entry in order if entry != "stored"]
    assert inner == ["offer a", "give a", "accept a", "offer b", "give b", "accept b"]
    assert order.index("stored", order.index("offer a")) < order.index("give a")
    assert order.index("stored", order.index("offer b")) < order.index("give b")

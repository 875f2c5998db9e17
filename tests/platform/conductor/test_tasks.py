"""Tasks of the ledger on their way through a pool."""

import pytest

from nearedge.conductor import tasks
from nearedge.conductor.tasks import TaskQueue
from nearedge_agents.pool import Done, Work
from nearedge_agents.worker import TaskReport
from nearedge_db.states import TaskState


@pytest.fixture
def clock(monkeypatch):
    """Time that only the test moves."""
    now = [100.0]
    monkeypatch.setattr(tasks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(tasks, "PAUSE_S", 3.0)
    return now


def queue_of(*numbers: int) -> TaskQueue:
    queue = TaskQueue()
    for number in numbers:
        queue.add(number)
    return queue


def answer(work: Work, state: TaskState = TaskState.DONE, **outcome) -> Done:
    value = None if outcome else TaskReport(work.tag, state, "why" if state is not TaskState.DONE else None)
    return Done(work, value=value, **outcome)


def test_first_in_first_out(clock):
    queue = queue_of(5, 3)
    assert [queue.offer().args for _ in range(2)] == [(5,), (3,)]
    assert queue.offer() is None
    assert (queue.unfinished, queue.under_way) == (2, 2)


def test_the_longest_goes_first(clock):
    queue = TaskQueue()
    for number, expected in ((1, 2.0), (2, 9.0), (3, 2.0), (4, 5.0)):
        queue.add(number, expected)
    first = queue.offer()
    assert first.tag == 2
    queue.accept(answer(first, TaskState.RETRY))
    assert [queue.offer().tag for _ in range(4)] == [2, 4, 1, 3]


@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.QUARANTINED, TaskState.CANCELLED])
def test_a_finished_task_is_reported(clock, state):
    queue = queue_of(5)
    report = queue.accept(answer(queue.offer(), state))
    assert (report.task_id, report.state) == (5, state)
    assert queue.unfinished == 0


def test_a_lost_actor_brings_the_task_back_after_a_pause(clock):
    """Its lease is still held by the dead."""
    queue = queue_of(5)
    assert queue.accept(answer(queue.offer(), lost=True, error=RuntimeError())) is None
    assert queue.unfinished == 1
    assert queue.offer() is None
    clock[0] += 3.0
    assert queue.offer().tag == 5


def test_a_task_leased_elsewhere_is_asked_for_again_after_a_pause(clock):
    queue = queue_of(5)
    assert queue.accept(answer(queue.offer(), TaskState.LEASED)) is None
    assert queue.offer() is None
    clock[0] += 3.0
    work = queue.offer()
    assert queue.accept(answer(work)).state is TaskState.DONE


def test_a_task_to_be_retried_goes_round_at_once(clock):
    queue = queue_of(5)
    assert queue.accept(answer(queue.offer(), TaskState.RETRY)) is None
    assert queue.offer().tag == 5


def test_others_go_before_a_paused_one(clock):
    queue = queue_of(5, 6)
    queue.accept(answer(queue.offer(), lost=True, error=RuntimeError()))
    assert queue.offer().tag == 6


def test_what_broke_the_actors_code_is_raised(clock):
    queue = queue_of(5)
    with pytest.raises(ZeroDivisionError):
        queue.accept(answer(queue.offer(), error=ZeroDivisionError()))
    assert queue.unfinished == 0

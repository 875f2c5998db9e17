"""Strikes happen once, in time, and to whoever is at work."""

from types import SimpleNamespace

import psutil
import pytest

from nearedge.bench.chaos import striking
from nearedge.bench.chaos.plan import Strike
from nearedge.bench.chaos.striking import REST_S, Striker


class FakeProcess:
    """A process with a title."""

    def __init__(self, pid, title):
        self.pid, self._title, self.dead = pid, title, False

    def cmdline(self):
        if self.dead:
            raise psutil.NoSuchProcess(self.pid)
        return [self._title]

    def kill(self):
        self.dead = True


class FakeDriver:
    """Counts how often it is ended and started."""

    def __init__(self):
        self.process, self.calls = SimpleNamespace(pid=7), []

    def end(self):
        self.calls.append("end")

    def start(self):
        self.calls.append("start")


class World:
    """A clock, a driver, two nodes and their processes."""

    def __init__(self, *strikes):
        self.now, self.processes_there, self.driver = 1000.0, [], FakeDriver()
        self.striker = Striker(strikes, self.driver, self, clock=lambda: self.now)

    def processes(self):
        return self.processes_there

    def kill_other_node(self):
        return [11, 12]

    def step(self, labels, after=0.0):
        self.now += after
        self.striker.step(labels)
        return [kill.victim for kill in self.striker.kills]


def test_nobody_is_struck_before_the_labels_are_there():
    world = World(Strike("node", 3, 0.0))
    assert world.step(2) == []
    assert world.step(3) == ["node"]
    assert world.striker.kills[0].pids == (11, 12)


def test_the_delay_runs_from_the_label_on():
    world = World(Strike("node", 3, 2.0))
    assert world.step(3) == []
    assert world.step(3, after=1.9) == []
    assert world.step(4, after=0.2) == ["node"]


def test_everybody_is_struck_once_with_a_rest_between():
    world = World(Strike("node", 0, 0.0), Strike("driver", 0, 0.0))
    assert world.step(0) == ["node"]
    assert world.step(0, after=REST_S / 2) == ["node"]
    assert world.step(0, after=REST_S) == ["node", "driver"]
    assert world.step(9, after=10 * REST_S) == ["node", "driver"]


def test_who_was_not_struck_is_left():
    world = World(Strike("node", 0, 0.0), Strike("trainer", 0, 0.0), Strike("driver", 9, 0.0))
    assert world.step(0) == ["node"]
    assert world.striker.left == ["trainer", "driver"]


def test_a_driver_that_was_killed_is_started_again():
    world = World(Strike("driver", 0, 0.0))
    world.step(0)
    assert world.driver.calls == ["end", "start"]
    assert world.striker.kills[0].pids == (7,)


@pytest.mark.parametrize("victim", sorted(striking.ACTORS))
def test_an_actor_is_waited_for_until_it_works(victim):
    world, name = World(Strike(victim, 0, 0.0)), striking.ACTORS[victim]
    world.processes_there = [FakeProcess(1, f"ray::{name}"), FakeProcess(2, "ray::Other.perform()")]
    assert world.step(0) == []
    world.processes_there.append(FakeProcess(3, f"ray::{name}.perform()"))
    assert world.step(0) == [victim]
    assert world.striker.kills[0].pids == (3,)
    assert [one.dead for one in world.processes_there] == [False, False, True]


def test_a_process_that_has_ended_has_no_title():
    gone = FakeProcess(1, "ray::Labeler.perform()")
    gone.kill()
    assert striking.title(gone) == ""

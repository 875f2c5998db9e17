"""What Ctrl-C and SIGTERM do."""

import io
import os
import signal
from dataclasses import dataclass

import pytest
from rich.console import Console

from nearedge import campaign as campaign_module
from nearedge import interruption as interruption_module
from nearedge.campaign import EXIT_STOPPED, run_campaign
from nearedge.interruption import REPEAT_S, interruptible


@dataclass
class Working:
    """A campaign with labels in flight."""

    interrupted: bool = False
    labels_in_flight: int = 3


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(interruption_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def console(output):
    return Console(file=output, width=200)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_finishes_what_is_in_flight_and_the_second_leaves(console, output, clock, number):
    working = Working()
    with interruptible(console) as interruption, interruption.asks(working):
        os.kill(os.getpid(), number)
        assert working.interrupted
        assert f"{number.name}: finishing labels in flight (3)" in output.getvalue()
        clock[0] += 2 * REPEAT_S
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_signal_that_comes_twice_at_once_is_one(console, clock):
    working = Working()
    with interruptible(console) as interruption, interruption.asks(working):
        for _ in range(2):  # as `timeout` does: to the process, then to its group
            os.kill(os.getpid(), signal.SIGTERM)
        assert working.interrupted


def test_whoever_hammers_is_heard(console, clock):
    with interruptible(console) as interruption, interruption.asks(Working()):
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] += 0.6 * REPEAT_S
        os.kill(os.getpid(), signal.SIGINT)
        clock[0] += 0.6 * REPEAT_S
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_nothing_works_yet_the_first_leaves(console, clock, number):
    with interruptible(console), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_handlers_come_back(console):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with interruptible(console):
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before


def test_whoever_leaves_before_anything_began_is_told_how_to_go_on(monkeypatch, capsys):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign_module, "check", interrupted)
    assert run_campaign(None) == EXIT_STOPPED
    assert "the same command goes on from here" in capsys.readouterr().out

"""Ray's processes and the signals of a campaign, without Ray."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from tests.platform.campaign_files import write_config

from nearedge import raycluster
from nearedge.config import load_config
from nearedge.raycluster import ATTEMPTS, RayLostError, Servers, deaf_children, signals_kept

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


@pytest.fixture
def sleeper():
    started = []

    def start():
        process = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_only_what_is_started_inside_does_not_hear_sigterm(sleeper):
    with deaf_children():
        deaf = sleeper()
    hearing = sleeper()
    for process in (deaf, hearing):
        process.send_signal(signal.SIGTERM)
    assert hearing.wait(10) == -signal.SIGTERM
    with pytest.raises(subprocess.TimeoutExpired):
        deaf.wait(0.3)
    deaf.kill()
    assert deaf.wait(10) == -signal.SIGKILL
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_handler_that_ray_sets_does_not_stay():
    before = signal.getsignal(signal.SIGTERM)
    with signals_kept():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def heard_sigint():
    """A shell leaves SIGINT ignored in what it starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_sigint")
def test_sigterm_while_ray_starts_is_an_interruption():
    def start_ray(number):
        with signals_kept(), deaf_children():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        start_ray(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        start_ray(signal.SIGINT)
    with pytest.raises(SystemExit), signals_kept():
        sys.exit(1)


def test_a_dead_server_is_told_in_one_line_and_the_others_are_ended(sleeper):
    raylet, gcs, helper = sleeper(), sleeper(), sleeper()
    vital = {"raylet": psutil.Process(raylet.pid), "gcs_server": psutil.Process(gcs.pid)}
    servers = Servers(vital, [psutil.Process(helper.pid)])
    servers.check()
    gcs.kill()  # and left as a zombie
    os.waitid(os.P_PID, gcs.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(RayLostError, match=r"Ray's gcs_server has died .* the same command goes on"):
        servers.check()
    assert (raylet.wait(10), helper.wait(10)) == (-signal.SIGKILL, -signal.SIGKILL)
    gcs.wait()
    with pytest.raises(RayLostError):
        servers.check()


def test_where_the_cluster_was_there_before_nothing_is_watched_or_ended():
    Servers().check()


def test_a_ray_that_is_slow_to_start_is_started_again(monkeypatch, sleeper, tmp_path):
    """What the first attempt has left is ended."""
    left, asked = [], []

    def init(**options):
        asked.append(options)
        left.append(sleeper())
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(raycluster.ray, "init", init)
    config = load_config(write_config(tmp_path))
    with pytest.raises(RayLostError, match=r"did not start in 4 attempts .* the same command goes on"):
        raycluster._start(config, {})
    assert len(asked) == ATTEMPTS
    assert [process.wait(10) for process in left] == [-signal.SIGKILL] * ATTEMPTS


def test_another_error_of_ray_is_told_at_once(monkeypatch, tmp_path):
    asked = []

    def init(**options):
        asked.append(options)
        raise ValueError("no such option")

    monkeypatch.setattr(raycluster.ray, "init", init)
    with pytest.raises(ValueError, match="no such option"):
        raycluster._start(load_config(write_config(tmp_path)), {})
    assert len(asked) == 1

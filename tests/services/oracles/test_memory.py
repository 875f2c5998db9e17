"""Memory of a try: counted anew for each, programs that run side by side together."""

import sys
from contextvars import copy_context
from threading import Barrier, Thread

import numpy as np
import pytest

from nearedge_services.oracles.external import Session
from nearedge_services.oracles.memory import Meter, metered, program_running

MIB_300 = 300 / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's peak anew")
def test_what_was_needed_before_does_not_count():
    with metered() as meter:
        ones = np.ones(300 * 2**17)
        assert ones.sum() > 0
        del ones
    large = meter.own
    with metered() as meter:
        pass
    assert meter.own < large - 0.8 * MIB_300


def test_a_program_counts_beside_this_process():
    with metered() as meter, Session("test") as session:
        session.run([sys.executable, "-c", "x = b'1' * (300 * 2**20)"]).check()
    assert MIB_300 < meter.programs < 3 * MIB_300
    assert meter.gib == pytest.approx(meter.own + meter.programs)


def test_programs_side_by_side_count_as_often():
    both_run = Barrier(2)

    def run():
        with program_running() as took:
            both_run.wait(10)
            took(0.5)

    with metered() as meter:
        threads = [Thread(target=copy_context().run, args=(run,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with program_running() as took:
            took(0.2)
    assert meter.programs == pytest.approx(1.0)


def test_without_a_meter_nothing_is_counted():
    with program_running() as took:
        took(1.0)
    assert Meter().programs == 0.0

"""What happens while the database is away, on every back end, whose test class gives ``database`` and ``away``.

``away(seconds)`` is a context manager: the database cannot be written from its start on, for so many seconds.
"""

import threading
import time

import pytest
from tests.db.helpers import count, write_event

from nearedge_db import store
from nearedge_db.keepalive import keep_alive
from nearedge_db.ledger import Ledger
from nearedge_db.schema import Event
from nearedge_db.states import TaskState


class OutageContract:
    @pytest.fixture(params=[1.5, pytest.param(10.0, marks=pytest.mark.slow)])
    def seconds(self, request):
        return request.param

    def test_a_worker_and_its_lease_outlast_it(self, database, away, seconds):
        """The lease is renewed when the database is back; the result is written once."""
        ledger, write = Ledger(database), write_event(database)
        ledger.submit("label", "l", {}, campaign_id=None)
        task = ledger.lease("w", seconds=3 * seconds)
        with keep_alive(ledger, task, 3 * seconds) as lease:
            with away(seconds):
                assert lease.last_error is None
            time.sleep(2.5 * seconds)
            assert not lease.lost
        assert ledger.lease("other") is None
        with away(seconds):
            began = time.monotonic()
            assert ledger.complete(task.id, "w", write, 1.0)
            assert time.monotonic() - began > 0.7 * seconds
        assert ledger.get(task.id).state is TaskState.DONE
        assert count(database, Event) == 1

    def test_transactions_wait_for_it(self, database, sample, away, seconds):
        with database.begin() as session:
            sample.campaign(session)
        with away(seconds):
            began = time.monotonic()
            with database.begin() as session:
                sample.campaign(session, "later")
            assert time.monotonic() - began > 0.7 * seconds
        with database.session() as session:
            assert [row.name for row in store.list_campaigns(session)] == ["demo", "later"]

    def test_writers_side_by_side_lose_nothing(self, database, away, seconds):
        """Several work all the time, also when it goes away in the middle of what they do."""
        ledger, write = Ledger(database), write_event(database)
        made = [ledger.submit("label", f"t{i}", {}, campaign_id=None).id for i in range(12)]
        done: list[int] = []
        stop = time.monotonic() + seconds + 30

        def work(name):
            while len(done) < len(made) and time.monotonic() < stop:
                task = ledger.lease(name, seconds=600)
                if task is not None and ledger.complete(task.id, name, write, 0.1):
                    done.append(task.id)
                time.sleep(0.05)

        threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        with away(seconds):
            pass
        for thread in threads:
            thread.join()
        assert sorted(done) == made
        assert count(database, Event) == len(made)

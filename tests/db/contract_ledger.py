"""What the ledger must do on every back end, whose test class gives the ``database`` fixture."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from tests.db.helpers import count, in_threads, write_event

from nearedge_db import store
from nearedge_db.attempts import AttemptNote, failures_before
from nearedge_db.keepalive import keep_alive
from nearedge_db.ledger import Ledger
from nearedge_db.processes import life_of_this_process
from nearedge_db.schema import AttemptRow, Event
from nearedge_db.states import CampaignState, TaskState
from nearedge_db.transitions import MOST_LOST

SHORT = 0.05


def submit(ledger, identity="label:1", **options):
    return ledger.submit("label", identity, {"structure": 1}, **{"campaign_id": None, **options})


class LedgerContract:
    @pytest.fixture
    def ledger(self, database):
        return Ledger(database)

    def test_submit_is_idempotent(self, ledger):
        first = submit(ledger, priority=2.0)
        again = ledger.submit("label", "label:1", {"other": 2}, campaign_id=None)
        assert again == first
        assert first.state is TaskState.PENDING
        assert first.payload == {"structure": 1}

    def test_racing_submits_make_one_task(self, ledger):
        tasks = in_threads(6, lambda _: submit(ledger))
        assert {task.id for task in tasks} == {tasks[0].id}

    def test_every_try_is_a_row_with_its_end_and_its_settings(self, ledger, database):
        task = submit(ledger)
        ledger.lease("a")
        note = AttemptNote({"iterations": 300}, peak_gib=1.5)
        ledger.fail(task.id, "a", "no", retryable=True, kind="not converged", note=note)
        ledger.lease("b", seconds=SHORT)
        time.sleep(2 * SHORT)
        ledger.lease("c")
        with database.session() as session:
            assert failures_before(session, task.id, 3) == ["not converged", "lost"]
            assert failures_before(session, task.id, 1) == []
        ledger.complete(task.id, "c", lambda session, done: None, seconds=1.0)
        with database.session() as session:
            rows = list(session.scalars(select(AttemptRow).order_by(AttemptRow.id)))
        assert [(row.number, row.owner, row.outcome) for row in rows] == [
            (1, "a", "not converged"),
            (2, "b", "lost"),
            (3, "c", "done"),
        ]
        assert (rows[0].reason, rows[0].changes_json, rows[0].peak_gib) == ("no", {"iterations": 300}, 1.5)
        assert rows[1].seconds >= 2 * SHORT
        assert rows[2].reason is None

    def test_cancelling_work_under_way_is_the_end_of_a_try_and_cancelling_what_waits_is_not(self, ledger):
        waits, under_way = submit(ledger), submit(ledger, identity="other")
        ledger.lease("a", task_id=under_way.id)
        ledger.cancel(waits.id)
        ledger.cancel(under_way.id)
        with ledger.database.session() as session:
            rows = session.scalars(select(AttemptRow)).all()
        assert [(row.task_id, row.outcome) for row in rows] == [(under_way.id, "cancelled")]

    def test_tries_from_before_a_task_was_reopened_do_not_count(self, ledger):
        task = submit(ledger)
        ledger.lease("a")
        ledger.fail(task.id, "a", "no", retryable=False, kind="bad geometry")
        ledger.reopen(task.id)
        again = ledger.lease("b")
        with ledger.database.session() as session:
            assert failures_before(session, task.id, again.attempts) == []

    def test_unknown_kind_is_refused(self, ledger):
        with pytest.raises(ValueError, match="dinner"):
            ledger.submit("dinner", "x", {}, campaign_id=None)

    def test_lease_takes_the_most_urgent_task_once(self, ledger):
        low, high = submit(ledger, "a"), submit(ledger, "b", priority=1.0)
        taken = ledger.lease("worker")
        assert taken.id == high.id
        assert (taken.state, taken.owner, taken.attempts) == (TaskState.LEASED, "worker", 1)
        assert ledger.lease("other").id == low.id
        assert ledger.lease("third") is None

    def test_lease_filters(self, ledger, database, sample):
        with database.begin() as session:
            mine, other = sample.campaign(session, "a").id, sample.campaign(session, "b").id
        task = submit(ledger, campaign_id=mine)
        assert ledger.lease("w", campaign_id=other) is None
        assert ledger.lease("w", kinds=["train"]) is None
        assert ledger.lease("w", task_id=task.id + 1) is None
        assert ledger.lease("w", task_id=task.id, kinds=["label"], campaign_id=mine).id == task.id

    def test_racing_leases_are_exclusive(self, ledger):
        tasks = [submit(ledger, f"t{i}") for i in range(5)]
        taken = in_threads(8, lambda i: ledger.lease(f"w{i}"))
        ids = [task.id for task in taken if task is not None]
        assert sorted(ids) == [task.id for task in tasks]

    def test_expired_lease_is_taken_over_and_the_old_owner_is_refused(self, ledger, database):
        task = submit(ledger)
        ledger.lease("slow")
        assert ledger.lease("eager") is None
        assert ledger.heartbeat(task.id, "slow", -1.0)  # as if its time had passed
        taken = ledger.lease("eager")
        assert (taken.owner, taken.attempts) == ("eager", 2)
        assert "slow" in taken.last_error
        assert not ledger.heartbeat(task.id, "slow", 60)
        assert not ledger.complete(task.id, "slow", write_event(database), 1.0)
        assert ledger.fail(task.id, "slow", "too late", retryable=False) is TaskState.LEASED
        assert count(database, Event) == 0

    def test_a_lease_ends_with_a_process_of_this_machine(self, ledger, database):
        """Killed with -9, and not yet noticed by its parent; a living one keeps its lease."""
        task = submit(ledger)
        program = (
            "import sys, time; from nearedge_db.database import Database; from nearedge_db.ledger import Ledger\n"
            "from nearedge_db.processes import life_of_this_process\n"
            "ledger = Ledger(Database.open(sys.argv[1]))\n"
            "print(ledger.lease(life_of_this_process('x'), seconds=600).attempts, flush=True)\n"
            "time.sleep(60)"
        )
        arguments = [sys.executable, "-c", program, database.url]
        other = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "1\n"
        assert ledger.lease("eager") is None
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        taken = ledger.lease("eager")
        assert (taken.id, taken.attempts) == (task.id, 2)
        assert "ended with it in attempt 1" in taken.last_error
        other.wait()
        other.stdout.close()

    def test_a_process_of_another_machine_is_believed(self, ledger):
        submit(ledger)
        host, pid, _, mark = life_of_this_process("x").split("|")
        ledger.lease(f"not-{host}|{pid}|1|{mark}")
        assert ledger.lease("eager") is None

    def test_whoever_saw_a_worker_die_gives_up_its_lease_and_no_other(self, ledger):
        task = submit(ledger, max_attempts=1)
        ledger.lease("host|1|2|abc")
        assert ledger.give_up_for(task.id, "xyz", "killed") is TaskState.LEASED
        assert ledger.give_up_for(task.id, "abc", "killed") is TaskState.RETRY
        assert ledger.get(task.id).last_error == "killed (attempt 1)"
        ledger.lease("host|1|2|abc")
        assert ledger.give_up_for(task.id, "abc", "killed", "timeout") is TaskState.QUARANTINED
        with ledger.database.session() as session:
            assert failures_before(session, task.id, 3) == ["lost", "timeout"]
        assert ledger.give_up_for(task.id, "abc", "killed") is TaskState.QUARANTINED

    def test_lost_workers_leave_the_attempts_to_the_failures(self, ledger):
        task = submit(ledger)
        ends = ["lost", "not converged", "lost", "lost", "not converged", "lost", "not converged"]
        for number, end in enumerate(ends, 1):
            assert ledger.lease("host|1|2|abc").attempts == number
            state = ledger.give_up_for(task.id, "abc", "ended", end)
            assert state is (TaskState.QUARANTINED if number == len(ends) else TaskState.RETRY)
        assert ledger.reopen(task.id)
        ledger.lease("host|1|2|abc")
        assert ledger.give_up_for(task.id, "abc", "ended", "crash") is TaskState.RETRY

    def test_a_task_that_keeps_killing_its_workers_is_set_aside(self, ledger):
        task = submit(ledger)
        for number in range(1, MOST_LOST + 1):
            assert ledger.lease("host|1|2|abc").attempts == number
            state = ledger.give_up_for(task.id, "abc", "killed")
        assert state is TaskState.QUARANTINED

    def test_last_attempt_expiring_quarantines(self, ledger, monkeypatch):
        monkeypatch.setattr("nearedge_db.transitions.MOST_LOST", 1)
        task = submit(ledger, max_attempts=1)
        ledger.lease("w", seconds=SHORT)
        time.sleep(2 * SHORT)
        assert ledger.lease("v") is None
        after = ledger.get(task.id)
        assert after.state is TaskState.QUARANTINED
        assert "lease of w expired" in after.last_error
        assert after.finished_at is not None

    def test_heartbeat_extends_the_lease(self, ledger):
        task = submit(ledger)
        before = ledger.lease("w", seconds=SHORT)
        assert ledger.heartbeat(task.id, "w", 60)
        time.sleep(2 * SHORT)
        assert ledger.lease("v") is None
        assert ledger.get(task.id).lease_expires_at > before.lease_expires_at + timedelta(seconds=30)

    def test_keep_alive_holds_a_lease_longer_than_its_seconds(self, ledger):
        submit(ledger)
        task = ledger.lease("w", seconds=0.3)
        with keep_alive(ledger, task, 0.3) as lease:
            time.sleep(0.7)
            assert ledger.lease("v") is None
            assert not lease.lost

    def test_keep_alive_notices_a_cancelled_task(self, ledger):
        submit(ledger)
        task = ledger.lease("w", seconds=0.15)
        with keep_alive(ledger, task, 0.15) as lease:
            assert ledger.cancel(task.id)
            deadline = time.monotonic() + 5
            while not lease.lost and time.monotonic() < deadline:
                time.sleep(0.01)
            assert lease.lost

    def test_complete_writes_result_and_done(self, ledger, database):
        task = submit(ledger)
        ledger.lease("w")
        assert ledger.complete(task.id, "w", write_event(database), 1.5)
        after = ledger.get(task.id)
        assert (after.state, after.seconds, after.last_error) == (TaskState.DONE, 1.5, None)
        assert after.state.is_finished()
        assert count(database, Event) == 1
        assert not ledger.complete(task.id, "w", write_event(database), 1.5)
        assert count(database, Event) == 1

    def test_complete_with_a_failing_write_leaves_nothing(self, ledger, database):
        task = submit(ledger)
        ledger.lease("w")
        write = write_event(database)

        def broken(session, leased):
            write(session, leased)
            session.flush()
            raise RuntimeError("disk full")

        with pytest.raises(RuntimeError, match="disk full"):
            ledger.complete(task.id, "w", broken, 1.0)
        assert count(database, Event) == 0
        assert ledger.get(task.id).state is TaskState.LEASED
        assert ledger.complete(task.id, "w", write, 1.0)

    def test_racing_completes_write_once(self, ledger, database):
        task = submit(ledger)
        ledger.lease("w")
        write = write_event(database)
        done = in_threads(4, lambda _: ledger.complete(task.id, "w", write, 1.0))
        assert sorted(done) == [False, False, False, True]
        assert count(database, Event) == 1

    def test_fail_retries_until_the_attempts_are_spent(self, ledger):
        task = submit(ledger, max_attempts=2)
        ledger.lease("w")
        assert ledger.fail(task.id, "w", "no convergence", retryable=True) is TaskState.RETRY
        assert ledger.lease("w").attempts == 2
        assert ledger.fail(task.id, "w", "no convergence again", retryable=True) is TaskState.QUARANTINED
        assert ledger.get(task.id).last_error == "no convergence again"
        assert ledger.lease("w") is None
        assert submit(ledger).state is TaskState.QUARANTINED

    def test_fail_for_good(self, ledger):
        task = submit(ledger)
        ledger.lease("w")
        assert ledger.fail(task.id, "w", "atoms overlap", retryable=False) is TaskState.QUARANTINED
        assert ledger.reopen(task.id)
        assert ledger.get(task.id).attempts == 0
        assert ledger.lease("w").id == task.id

    def test_release_gives_back_the_attempt(self, ledger):
        task = submit(ledger)
        ledger.lease("w")
        assert ledger.release("someone else") == 0
        assert ledger.release("w") == 1
        after = ledger.get(task.id)
        assert (after.state, after.attempts, after.owner) == (TaskState.PENDING, 0, None)

    def test_cancelled_task_is_wanted_again_when_submitted(self, ledger):
        task = submit(ledger)
        assert ledger.cancel(task.id)
        assert not ledger.cancel(task.id)
        assert ledger.lease("w") is None
        assert submit(ledger).state is TaskState.PENDING

    def test_waiting_task_of_an_ended_campaign_is_adopted(self, ledger, database, sample):
        with database.begin() as session:
            old, new = sample.campaign(session, "old").id, sample.campaign(session, "new").id
            store.set_campaign_state(session, old, CampaignState.RUNNING)
        task = submit(ledger, campaign_id=old)
        assert submit(ledger, campaign_id=new).campaign_id == old
        with database.begin() as session:
            store.set_campaign_state(session, old, CampaignState.STOPPED)
        assert submit(ledger, campaign_id=new).campaign_id == new
        assert [open_task.id for open_task in ledger.open_tasks(new, "label")] == [task.id]

    def test_counts_and_lookup(self, ledger, database, sample):
        with database.begin() as session:
            campaign = sample.campaign(session).id
        task = submit(ledger, campaign_id=campaign)
        submit(ledger, "other", campaign_id=campaign)
        ledger.lease("w", task_id=task.id)
        counts = ledger.counts(campaign)
        assert (counts[TaskState.LEASED], counts[TaskState.PENDING], counts[TaskState.DONE]) == (1, 1, 0)
        assert ledger.counts(campaign, "train")[TaskState.PENDING] == 0
        with pytest.raises(LookupError):
            ledger.get(10_000)

    def test_timestamps_are_aware_utc(self, ledger):
        task = submit(ledger)
        leased = ledger.lease("w")
        for moment in (task.created_at, leased.started_at, leased.lease_expires_at):
            assert moment.tzinfo is UTC
            assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)

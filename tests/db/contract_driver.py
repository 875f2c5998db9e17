"""What the driver's lease must do on every back end, whose test class gives ``database``."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import inspect, text
from tests.db.helpers import in_threads

from nearedge_db import driver
from nearedge_db.migrate import downgrade
from nearedge_db.store import get_campaign

COLUMNS = {"driver_owner", "driver_host", "driver_pid", "driver_heartbeat_at", "driver_expires_at"}
HERE = driver.this_process()
ELSEWHERE = replace(HERE, host="elsewhere/0", life="other")


class DriverContract:
    @pytest.fixture
    def driven(self, database, sample):
        with database.begin() as session:
            return sample.campaign(session).id

    def take(self, database, campaign, who=HERE, later=0.0, seconds=driver.LEASE_SECONDS):
        with database.begin() as session:
            now = database.now(session) + timedelta(seconds=later)
            return driver.take(session, campaign, who, now, seconds)

    def holder(self, database, campaign, later=0.0):
        with database.session() as session:
            now = database.now(session) + timedelta(seconds=later)
            return driver.holder(get_campaign(session, campaign), now)

    def test_one_driver_at_a_time(self, database, driven):
        assert self.holder(database, driven) is None
        assert self.take(database, driven) is None
        assert self.take(database, driven) is None  # the same process again
        refused = self.take(database, driven, ELSEWHERE)
        assert (refused.pid, refused.host) == (HERE.pid, HERE.host.partition("/")[0])
        assert f"process {HERE.pid} on " in str(refused)
        with database.begin() as session:
            assert not driver.release(session, driven, ELSEWHERE)
            assert driver.release(session, driven, HERE)
        assert self.holder(database, driven) is None
        assert self.take(database, driven, ELSEWHERE) is None

    def test_drivers_that_race_are_told_apart(self, database, driven):
        # this process lives, so its number does for all of them
        racers = [replace(HERE, life=str(number)) for number in range(4)]
        refused = in_threads(4, lambda number: self.take(database, driven, racers[number]))
        assert sum(one is None for one in refused) == 1
        assert all(isinstance(one, driver.Holder) for one in refused if one is not None)

    def test_a_driver_of_another_machine_is_believed_until_its_lease_ends(self, database, driven):
        self.take(database, driven, ELSEWHERE)
        assert driver.LEASE_SECONDS <= 60
        assert self.take(database, driven, later=driver.LEASE_SECONDS - 5).host == "elsewhere"
        assert self.holder(database, driven, later=driver.LEASE_SECONDS + 5) is None
        assert self.take(database, driven, later=driver.LEASE_SECONDS + 5) is None

    def test_showing_life_keeps_the_lease_and_losing_it_is_told(self, database, driven):
        self.take(database, driven, ELSEWHERE)
        with database.begin() as session:
            later = database.now(session) + timedelta(seconds=40)
            assert driver.renew(session, driven, ELSEWHERE, later)
        assert self.take(database, driven, later=driver.LEASE_SECONDS + 5) is not None
        assert self.take(database, driven, later=40 + driver.LEASE_SECONDS + 5) is None
        with database.begin() as session:
            assert not driver.renew(session, driven, ELSEWHERE, database.now(session))
            assert not driver.release(session, driven, ELSEWHERE)
        assert self.holder(database, driven).pid == HERE.pid

    def test_a_killed_driver_of_this_machine_is_seen_at_once(self, database, driven):
        program = (
            "import sys, time; from nearedge_db import driver; from nearedge_db.database import Database\n"
            "database = Database.open(sys.argv[1])\n"
            "with database.begin() as session:\n"
            "    now = database.now(session)\n"
            "    print(driver.take(session, int(sys.argv[2]), driver.this_process(), now), flush=True)\n"
            "time.sleep(60)"
        )
        arguments = [sys.executable, "-c", program, database.url, str(driven)]
        other = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "None\n"
        assert self.take(database, driven).pid == other.pid
        other.kill()
        os.waitid(
            os.P_PID, other.pid, os.WEXITED | os.WNOWAIT
        )  # it has ended, its parent has not taken notice
        assert self.take(database, driven) is None
        other.wait()
        other.stdout.close()

    def test_another_process_of_the_same_number_is_not_the_driver(self, database, driven):
        self.take(database, driven, replace(HERE, birth="1", life="before"))
        assert self.holder(database, driven) is None

    def test_the_lease_comes_and_goes_with_its_migration(self, database, driven):
        self.take(database, driven)
        with database.begin() as session:
            downgrade(session.connection(), "0001")
        assert not self.columns(database) & COLUMNS
        database.upgrade()
        assert self.columns(database) >= COLUMNS
        assert self.holder(database, driven) is None
        with database.session() as session:
            assert get_campaign(session, driven).name == "demo"
            assert session.execute(text("SELECT * FROM discovered_structures")).all() == []

    def columns(self, database):
        return {column["name"] for column in inspect(database.engine).get_columns("campaigns")}

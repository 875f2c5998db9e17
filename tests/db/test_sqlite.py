"""The contract on SQLite, and what only SQLite has: a file, its directory, processes killed while writing."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import pytest
from sqlalchemy import text
from tests.db.contract_candidates import CandidatesContract
from tests.db.contract_database import DocumentationContract, MigrationContract, QueryContract, ViewsContract
from tests.db.contract_driver import DriverContract
from tests.db.contract_joint import JointContract
from tests.db.contract_ledger import LedgerContract
from tests.db.contract_models import ModelsContract
from tests.db.contract_outage import OutageContract
from tests.db.contract_prepared import PreparedContract
from tests.db.contract_store import StoreContract
from tests.db.helpers import add_model

from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.ledger import Ledger
from nearedge_db.query import read_only_query


class TestSQLite(
    LedgerContract,
    JointContract,
    PreparedContract,
    DriverContract,
    StoreContract,
    ModelsContract,
    CandidatesContract,
    MigrationContract,
    ViewsContract,
    QueryContract,
    DocumentationContract,
):
    """The whole contract on the embedded back end."""


class TestSQLiteLocked(OutageContract):
    """Another process has the file for itself."""

    @pytest.fixture
    def away(self, database, tmp_path):
        @contextmanager
        def lock(seconds):
            connection = sqlite3.connect(tmp_path / "nearedge.db", timeout=30, check_same_thread=False)
            connection.execute("BEGIN EXCLUSIVE")
            timer = threading.Timer(seconds, lambda: (connection.rollback(), connection.close()))
            timer.start()
            yield
            timer.join()

        return lock


def test_only_synced_commits_wait_for_the_disk(database):
    """One connection serves both kinds in turns: neither keeps the other's setting."""
    full, normal, found = 2, 1, []
    for synced in (True, False, True, False):
        with database.begin(synced) as session:
            found.append(session.scalar(text("PRAGMA synchronous")))
    assert found == [full, normal, full, normal]
    assert database.run(lambda session: session.scalar(text("PRAGMA synchronous"))) == full


@pytest.mark.parametrize(("what", "synced"), [("complete", True), ("lease", False)])
def test_results_are_synced_and_leases_are_not(database, monkeypatch, what, synced):
    ledger, asked = Ledger(database), []
    task = ledger.submit("label", "one", {}, campaign_id=None)
    if what == "complete":
        ledger.lease("me", task_id=task.id)
    run = Database.run
    monkeypatch.setattr(
        Database, "run", lambda self, work, synced=True: (asked.append(synced), run(self, work, synced))[1]
    )
    if what == "complete":
        assert ledger.complete(task.id, "me", lambda session, done: None, 1.0)
    else:
        assert ledger.lease("me", task_id=task.id) is not None
    assert asked == [synced]


_RACER = """
import sys
from nearedge_db.database import Database
from nearedge_db.ledger import Ledger
ledger = Ledger(Database.open(sys.argv[1]))
while (task := ledger.lease(sys.argv[2])) is not None:
    ledger.complete(task.id, sys.argv[2], lambda session, task: None, 0.0)
    print(task.id)
"""

_WRITER = """
import sys
from nearedge_db import store
from nearedge_db.database import Database
database, stays = Database.open(sys.argv[1]), sys.argv[2] == "within"
with database.begin() as session:
    campaign = store.create_campaign(session, "victim", {}, seed=0, absorber="C").id
number = 0
while True:
    with database.begin() as session:
        session.connection().exec_driver_sql("PRAGMA cache_size = 2")  # pages: the rest goes to the file at once
        for half in ("first", "second"):
            store.add_event(session, campaign, half, {"padding": str(number) * 50_000})
            session.flush()
            if stays and number == 3 and half == "first":
                print("within", flush=True)
                sys.stdin.read()
    number += 1
    print("whole", flush=True)
"""


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_racing_processes_share_the_tasks(database):
    ledger = Ledger(database)
    made = [ledger.submit("label", f"t{i}", {}, campaign_id=None).id for i in range(40)]
    racers = [start(_RACER, database.url, f"w{i}") for i in range(2)]
    done = [int(line) for racer in racers for line in racer.communicate(timeout=60)[0].split()]
    assert sorted(done) == made
    assert [racer.returncode for racer in racers] == [0, 0]


def test_racing_processes_create_one_database(tmp_path):
    racers = [start(_RACER, url_of_run(tmp_path), f"w{i}") for i in range(3)]
    assert [racer.wait(timeout=60) for racer in racers] == [0] * 3
    for racer in racers:
        racer.stdout.close()


@pytest.mark.parametrize("moment", ["within", "anywhere"])
def test_kill_9_while_writing_leaves_whole_transactions(sqlite_url, tmp_path, moment):
    """Killed with half of the fourth transaction in the file; or wherever it is after the third."""
    writer = start(_WRITER, sqlite_url, moment)
    said = [writer.stdout.readline() for _ in range(4 if moment == "within" else 3)]
    assert said == ["whole\n"] * 3 + ["within\n"] * (len(said) - 3)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    later = writer.stdout.read().count("whole")
    writer.stdin.close()
    writer.stdout.close()
    if moment == "within":
        assert (tmp_path / "nearedge.db-wal").read_bytes().count(b"3" * 1000) > 0
    database = Database.open(sqlite_url)
    with database.begin() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        counts = dict(connection.exec_driver_sql("SELECT kind, COUNT(*) FROM events GROUP BY kind").all())
    database.dispose()
    assert counts["first"] == counts["second"]
    # one may have been committed and not been told of
    assert 0 <= counts["first"] - 3 - later <= (moment == "anywhere")


def test_files_are_written_ahead_and_foreign_keys_are_on(database):
    with database.engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys")
        ]
    assert settings == ["wal", 30000, 1]


def test_special_characters_in_the_path(tmp_path):
    folder = tmp_path / "a run? 100% #1"
    folder.mkdir()
    database = Database.open(url_of_run(folder))
    assert [path.name for path in folder.glob("*.db")] == ["nearedge.db"]
    assert list(read_only_query(database.url, "SELECT name FROM campaigns")[1]) == []
    database.dispose()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "not a database URL"),
        ("oracle13://x", "not a database URL"),
        ("sqlite://", "memory"),
        ("sqlite:////no/such/folder/nearedge.db", "does not exist"),
    ],
)
def test_unusable_urls(url, message):
    with pytest.raises(UserError, match=message):
        Database.open(url)


def test_missing_file_is_refused_unless_created(sqlite_url):
    with pytest.raises(UserError, match="no NearEdge database"):
        Database.open(sqlite_url, create=False)
    with pytest.raises(UserError, match="no NearEdge database"):
        read_only_query(sqlite_url, "SELECT 1")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "nearedge.db").write_text("these are notes, and not a database at all\n" * 100)
    for use in (Database.open, lambda url: read_only_query(url, "SELECT 1")):
        with pytest.raises(UserError, match="file is not a database"):
            use(url_of_run(tmp_path))


def test_tables_of_somebody_else_are_refused(tmp_path):
    with sqlite3.connect(tmp_path / "nearedge.db") as connection:
        connection.execute("CREATE TABLE campaigns (x)")
    connection.close()
    with pytest.raises(UserError, match="did not make"):
        Database.open(url_of_run(tmp_path))


def _open_in_child(url):
    try:
        os.setuid(65534)  # root may write anywhere
        Database.open(url)
    except UserError as error:
        return str(error)
    return "opened"


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="takes root to become another user")
def test_unwritable_directory_as_another_user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readonly")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert "cannot write" in pool.submit(_open_in_child, url_of_run(folder)).result(timeout=30)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot write"):
        Database.open(url_of_run(tmp_path))


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '/tmp/other.db' AS other",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "SELECT load_extension('x')",
        "REPLACE INTO campaigns (name) VALUES ('x')",
        "BEGIN IMMEDIATE",
        "VACUUM INTO '/tmp/copy.db'",
        "SELECT 1; SELECT 2",
    ],
)
def test_refused_on_sqlite(database, statement):
    with pytest.raises(UserError, match="SELECT"):
        list(read_only_query(database.url, statement)[1])


def test_harmless_pragma_is_answered(database):
    columns, rows = read_only_query(database.url, "PRAGMA table_info(campaigns)")
    assert "name" in columns
    assert len(list(rows)) > 5


def test_optuna_shares_the_database(database, sample):
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(storage=database.url)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    again = Database.open(database.url)
    with again.begin() as session:
        campaign = sample.campaign(session).id
        assert add_model(session, campaign).sequence == 0
    again.dispose()

"""A SQLite database and a PostgreSQL server for the tests of the database package."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from nearedge_db import store
from nearedge_db.database import Database, url_of_run

pytest.register_assert_rewrite(
    "tests.db.contract_candidates",
    "tests.db.contract_database",
    "tests.db.contract_driver",
    "tests.db.contract_joint",
    "tests.db.contract_ledger",
    "tests.db.contract_models",
    "tests.db.contract_outage",
    "tests.db.contract_prepared",
    "tests.db.contract_store",
)


def server_folder() -> tempfile.TemporaryDirectory:
    """For a server, which runs as a user of its own: another pytest that begins would close pytest's folders to it."""
    return tempfile.TemporaryDirectory(prefix="nearedge-postgresql-", ignore_cleanup_errors=True)


def pg_ctl(server, *arguments: str) -> None:
    """Tell a server to start or to stop, and wait. ``-m immediate`` where its data are of no use any more: any other
    stop first writes them to the disk.
    """
    import pgserver

    pgserver.pg_ctl(["-w", *arguments], pgdata=server.pgdata, user=server.system_user)


@pytest.fixture(scope="session")
def postgresql_server():
    """URL of a database of a PostgreSQL server."""
    pgserver = pytest.importorskip("pgserver", reason="pgserver is not installed: pip install pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'nearedge[postgresql]'")
    with server_folder() as folder:
        server = pgserver.get_server(folder, cleanup_mode=None)
        server.psql("ALTER SYSTEM SET fsync = off;")  # a test database may be lost with the machine
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
        pg_ctl(server, "-m", "immediate", "stop")


def emptied(url: str) -> str:
    """The URL of a PostgreSQL database, all of whose tables are gone, and nobody connected to it.

    One database for all tests: the hundreds of files of each would take longer to remove than the tests take.
    """
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        for statement in (
            f"{others} AND datname = current_database()",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        ):
            connection.execute(text(statement))
    engine.dispose()
    return url


@pytest.fixture
def postgresql_url(postgresql_server):
    """URL of an empty PostgreSQL database."""
    return emptied(postgresql_server)


class OwnServer:
    """A PostgreSQL server that may be stopped and started, with one database."""

    def __init__(self) -> None:
        import pgserver

        self._folder = server_folder()
        self._server = pgserver.get_server(self._folder.name, cleanup_mode=None)
        self.url = self._server.get_uri()

    def stop(self) -> None:
        """As an administrator does: whoever is connected is cut off."""
        pg_ctl(self._server, "-m", "fast", "stop")

    def start(self) -> None:
        """The same again."""
        self._server.ensure_postgres_running()

    def discard(self) -> None:
        """Stop for good."""
        pg_ctl(self._server, "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def own_server():
    """A PostgreSQL server for tests that stop it."""
    pytest.importorskip("pgserver", reason="pgserver is not installed: pip install pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'nearedge[postgresql]'")
    server = OwnServer()
    yield server
    server.discard()


@pytest.fixture
def sqlite_url(tmp_path: Path):
    return url_of_run(tmp_path)


@pytest.fixture
def database(sqlite_url):
    database = Database.open(sqlite_url)
    yield database
    database.dispose()


class Sample:
    """Rows that tests need, made in a write session."""

    @staticmethod
    def campaign(session, name="demo"):
        return store.create_campaign(session, name, {"name": name}, seed=1, absorber="C")

    @staticmethod
    def structure(session, seed=0, n_atoms=4):
        positions = np.random.default_rng(seed).uniform(0, 4, (n_atoms, 3))
        return store.put_structure(
            session, np.full(n_atoms, 6), positions, 4.0 * np.eye(3), {2: 0.25, 3: 0.75}
        )

    @staticmethod
    def settings(session):
        return store.put_settings(session, "xtb", {"sigma_ev": 0.6})

    @classmethod
    def label(cls, session, seed=0, n_atoms=4):
        structure = cls.structure(session, seed, n_atoms)
        return store.put_label(
            session,
            structure.id,
            cls.settings(session),
            energy_ev=-10.0 * n_atoms,
            forces=np.zeros((n_atoms, 3)),
            xanes=np.ones((n_atoms, 5)),
            energies_ev=np.linspace(0, 4, 5),
            seconds=0.5,
        )


@pytest.fixture
def sample():
    return Sample

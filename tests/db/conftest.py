"""A SQLite database and a PostgreSQL server for the tests of the database package."""

import itertools
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

_numbers = itertools.count()


def server_folder() -> tempfile.TemporaryDirectory:
    """For a server, which runs as a user of its own: another pytest that begins would close pytest's folders to it."""
    return tempfile.TemporaryDirectory(prefix="nearedge-postgresql-", ignore_cleanup_errors=True)


@pytest.fixture(scope="session")
def postgresql_server():
    """URL of a PostgreSQL server, without a database name of our own."""
    pgserver = pytest.importorskip("pgserver", reason="pgserver is not installed: pip install pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'nearedge[postgresql]'")
    with server_folder() as folder:
        server = pgserver.get_server(folder)
        server.psql("ALTER SYSTEM SET fsync = off;")  # a test database may be lost with the machine
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server):
    """URL of a new, empty PostgreSQL database."""
    name = f"test_{next(_numbers)}"
    admin = create_engine(
        postgresql_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return postgresql_server.replace("/postgres?", f"/{name}?")


class OwnServer:
    """A PostgreSQL server that may be stopped and started, with one database."""

    def __init__(self) -> None:
        import pgserver

        self._folder = server_folder()
        self._server = pgserver.get_server(self._folder.name, cleanup_mode=None)
        self.url = self._server.get_uri()

    def stop(self) -> None:
        """As an administrator does: whoever is connected is cut off."""
        self._pg_ctl("-m", "fast", "stop")

    def start(self) -> None:
        """The same again."""
        self._server.ensure_postgres_running()

    def _pg_ctl(self, *arguments: str) -> None:
        import pgserver

        pgserver.pg_ctl(["-w", *arguments], pgdata=self._server.pgdata, user=self._server.system_user)


@pytest.fixture(scope="session")
def own_server():
    """A PostgreSQL server for tests that stop it."""
    pytest.importorskip("pgserver", reason="pgserver is not installed: pip install pgserver")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'nearedge[postgresql]'")
    server = OwnServer()
    yield server
    server.stop()


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

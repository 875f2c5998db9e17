"""The contract on PostgreSQL, and what only a server has."""

import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from tests.db.conftest import emptied
from tests.db.contract_candidates import CandidatesContract
from tests.db.contract_database import DocumentationContract, MigrationContract, QueryContract, ViewsContract
from tests.db.contract_driver import DriverContract
from tests.db.contract_joint import JointContract
from tests.db.contract_ledger import LedgerContract
from tests.db.contract_models import ModelsContract
from tests.db.contract_outage import OutageContract
from tests.db.contract_prepared import PreparedContract
from tests.db.contract_store import StoreContract

from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.outages import is_away
from nearedge_db.query import read_only_query


class TestPostgreSQL(
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
    """The whole contract on a server."""

    @pytest.fixture
    def database(self, postgresql_url):
        database = Database.open(postgresql_url)
        yield database
        database.dispose()


class TestPostgreSQLRestarted(OutageContract):
    """The server is stopped, whoever is connected is cut off, and started again."""

    @pytest.fixture
    def database(self, own_server):
        database = Database.open(emptied(own_server.url))
        yield database
        database.dispose()

    @pytest.fixture
    def away(self, own_server):
        @contextmanager
        def restart(seconds):
            own_server.stop()
            timer = threading.Timer(seconds, own_server.start)
            timer.start()
            yield
            timer.join()

        return restart


def test_a_wrong_statement_is_not_an_outage(postgresql_url):
    """It would be tried for two minutes."""
    database = Database.open(postgresql_url)
    began = time.monotonic()
    with pytest.raises(ProgrammingError) as caught:
        database.run(lambda session: session.execute(text("SELECT * FROM nothing")))
    assert not is_away(caught.value)
    assert time.monotonic() - began < 2
    database.dispose()


def test_no_server():
    with pytest.raises(UserError, match="cannot use the database"):
        Database.open("postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize(
    "statement",
    [
        "SET TRANSACTION READ WRITE",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT setval('campaigns_id_seq', 9)",
        "DO $$ BEGIN DELETE FROM campaigns; END $$",
        "SELECT 1) TO STDOUT; DELETE FROM campaigns; --",
    ],
)
def test_refused_on_postgresql(postgresql_url, statement):
    Database.open(postgresql_url).dispose()
    with pytest.raises(UserError, match="SELECT"):
        list(read_only_query(postgresql_url, statement)[1])

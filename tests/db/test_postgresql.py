"""The contract on PostgreSQL, and what only a server has."""

import pytest
from tests.db.contract_database import DocumentationContract, MigrationContract, QueryContract, ViewsContract
from tests.db.contract_driver import DriverContract
from tests.db.contract_ledger import LedgerContract
from tests.db.contract_store import StoreContract

from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_db.query import read_only_query


class TestPostgreSQL(
    LedgerContract,
    DriverContract,
    StoreContract,
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

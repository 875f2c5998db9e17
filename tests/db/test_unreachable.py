"""What is said of a server that does not answer."""

import pytest

from nearedge_db.database import Database
from nearedge_db.errors import UserError


@pytest.mark.parametrize("create", [True, False])
def test_the_advice_is_for_every_way_to_name_the_database(create):
    with pytest.raises(UserError) as caught:
        Database.open("postgresql+psycopg://user:secret@127.0.0.1:1/nearedge", create=create)
    told = str(caught.value)
    assert "`database` of a campaign's settings, or --url" in told
    assert "127.0.0.1:1/nearedge" in told
    assert "secret" not in told
    assert "\n" not in told

"""What prepared statements must do on every back end, whose test class gives ``database``."""

from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from nearedge_db import store
from nearedge_db.insert import insert_missing, insert_returning
from nearedge_db.prepared import Prepared, completed
from nearedge_db.schema import Event, Generation, Structure
from nearedge_db.states import GenerationState

_STATE = Generation.__table__.c.state


class PreparedContract:
    def test_values_are_stored_as_an_orm_stores_them(self, database, sample):
        moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        add = Prepared(lambda dialect: insert(Event.__table__), ["campaign_id", "at", "kind", "data_json"])
        with database.begin() as session:
            campaign = sample.campaign(session).id
            rows = [{"campaign_id": campaign, "at": moment, "kind": k, "data_json": {k: 1}} for k in "ab"]
            add.many(session, rows)
            add.many(session, [])
        with database.session() as session:
            events = session.scalars(select(Event).order_by(Event.id)).all()
        assert [(event.kind, event.data_json, event.at) for event in events] == [
            ("a", {"a": 1}, moment),
            ("b", {"b": 1}, moment),
        ]

    def test_rows_come_back(self, database, sample):
        names = Prepared(
            lambda dialect: select(Generation.id, _STATE).where(Generation.seed == bindparam("seed"))
        )
        with database.begin() as session:
            campaign = sample.campaign(session).id
            made = [store.create_generation(session, campaign, "guided", {}, seed=5).id for _ in range(2)]
            rows = names.rows(session, {"seed": 5})
            assert sorted(tuple(row) for row in rows) == [(number, "OPEN") for number in made]
            assert names.one(session, {"seed": 6}) is None

    def test_what_a_statement_says_itself_is_converted_too(self, database, sample):
        close = Prepared(
            lambda dialect: (
                update(Generation.__table__)
                .where(_STATE == GenerationState.OPEN)
                .values(state=bindparam("to", type_=_STATE.type))
            )
        )
        with database.begin() as session:
            generation = store.create_generation(session, sample.campaign(session).id, "guided", {}, seed=5)
            assert not close.rows(session, {"to": GenerationState.CLOSED})
            assert session.get_one(Generation, generation.id).state is GenerationState.CLOSED

    def test_an_error_is_sqlalchemys(self, database, sample):
        add = Prepared(lambda dialect: insert(Event.__table__), ["campaign_id", "at", "kind", "data_json"])
        row = {"campaign_id": None, "at": datetime.now(UTC), "kind": "a", "data_json": {}}
        with pytest.raises(IntegrityError), database.begin() as session:
            add.rows(session, row)

    def test_a_default_that_would_be_missed_is_refused(self, database):
        add = Prepared(lambda dialect: insert(Event.__table__), ["campaign_id", "kind", "data_json"])
        with database.begin() as session, pytest.raises(ValueError, match="names its columns"):
            add.rows(session, {"campaign_id": 1, "kind": "a", "data_json": {}})

    def test_several_rows_give_what_was_new_of_them(self, database, sample):
        with database.begin() as session:
            known = sample.structure(session, seed=1)
            arrays = {"numbers": np.ones(1), "positions": np.zeros((1, 3)), "cell": np.eye(3)}
            rows = [
                {"hash": name, "formula": "C", "n_atoms": 1, "density_g_cm3": 2.0, **arrays}
                for name in (known.hash, "new")
            ]
            found = insert_returning(session, Structure, ("hash",), ("hash", "id"), rows)
            assert [row[0] for row in found] == ["new"]
            insert_missing(session, Structure, ["hash"], rows)
        with database.session() as session:
            assert session.get_one(Structure, found[0][1]).created_at.tzinfo is UTC

    def test_a_row_is_completed_by_the_defaults_of_its_table(self):
        row = completed(Generation.__table__, {"seed": 3})
        assert row["state"] is GenerationState.OPEN
        assert row["created_at"].tzinfo is UTC
        assert row["seed"] == 3

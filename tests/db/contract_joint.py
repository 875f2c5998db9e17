"""What joined transactions must do on every back end, whose test class gives ``database``."""

import threading

import pytest
from sqlalchemy import select

from nearedge_db import store
from nearedge_db.database import Database
from nearedge_db.schema import Event


def kinds(database, session=None):
    """Kinds of all events that the session sees; without one, those that are committed."""
    query = select(Event.kind).where(Event.kind != "state").order_by(Event.id)
    if session is not None:
        return list(session.scalars(query))
    other = Database(database.url)
    try:
        with other.session() as own:
            return list(own.scalars(query))
    finally:
        other.dispose()


class JointContract:
    @pytest.fixture
    def joining(self, database):
        """The number of a campaign."""
        with database.begin() as session:
            return store.create_campaign(session, "joined", {}, seed=1, absorber="C").id

    @pytest.fixture
    def note(self, database, joining):
        """Writes an event in a transaction."""

        def write(kind, synced=False):
            with database.begin(synced) as session:
                store.add_event(session, joining, kind)

        return write

    def test_parts_are_stored_together_at_the_end(self, database, joining, note):
        before = kinds(database)
        with database.joined():
            note("one")
            database.run(lambda session: store.add_event(session, joining, "two"), synced=False)
            assert kinds(database) == before
        assert kinds(database) == [*before, "one", "two"]

    def test_reading_inside_sees_what_was_written(self, database, note):
        with database.joined():
            with database.session() as session:
                assert "one" not in kinds(database, session)
            note("one")
            with database.session() as session:
                assert "one" in kinds(database, session)

    def test_rows_stay_readable(self, database, joining):
        with database.joined():
            with database.begin(synced=False) as session:
                event = store.add_event(session, joining, "one", {"n": 3})
            with database.session() as session:
                row = session.get_one(Event, event.id)
        assert (event.kind, row.data_json) == ("one", {"n": 3})

    def test_a_synced_transaction_commits_what_came_before_it(self, database, note):
        before = kinds(database)
        with database.joined():
            note("one")
            note("two", synced=True)
            assert kinds(database) == [*before, "one", "two"]
            note("three")
            assert kinds(database) == [*before, "one", "two"]
        assert kinds(database) == [*before, "one", "two", "three"]

    def test_what_a_part_raises_undoes_all_of_them(self, database, joining, note):
        before = kinds(database)

        def fail(session):
            store.add_event(session, joining, "two")
            raise KeyError("no")

        def burst():
            with database.joined():
                note("one")
                database.run(fail, synced=False)

        with pytest.raises(KeyError):
            burst()
        assert kinds(database) == before
        note("three")
        assert kinds(database) == [*before, "three"]

    def test_nothing_follows_a_part_that_failed(self, database, note):
        before = kinds(database)

        def fail(session):
            raise KeyError("no")

        def goes_on():
            with database.joined():
                note("one")
                with pytest.raises(KeyError):
                    database.run(fail, synced=False)
                note("two")

        with pytest.raises(RuntimeError, match="before this one has failed"):
            goes_on()
        assert kinds(database) == before

    def test_what_is_raised_between_parts_undoes_nothing(self, database, note):
        before = kinds(database)

        def burst():
            with database.joined():
                note("one")
                raise ValueError("later")

        with pytest.raises(ValueError, match="later"):
            burst()
        assert kinds(database) == [*before, "one"]

    def test_a_failure_that_somebody_swallows_does_not_pass_for_success(self, database, note):
        before = kinds(database)

        def swallowed():
            with database.joined():
                note("one")
                with pytest.raises(ValueError, match="mine"), database.begin(synced=False):
                    raise ValueError("mine")

        with pytest.raises(RuntimeError, match="nobody gave up"):
            swallowed()
        assert kinds(database) == before

    def test_blocks_inside_blocks_are_one(self, database, note):
        before = kinds(database)
        with database.joined():
            with database.joined():
                note("one")
            assert kinds(database) == before
        assert kinds(database) == [*before, "one"]

    def test_a_transaction_inside_another_is_refused(self, database, joining, note):
        before = kinds(database)

        def nested(inner):
            with database.joined(), database.begin(synced=False) as session:
                store.add_event(session, joining, "one")
                inner()

        def read():
            with database.session():
                pass

        for inner in (lambda: note("two"), lambda: note("two", synced=True), read):
            with pytest.raises(RuntimeError, match="inside"):
                nested(inner)
        assert kinds(database) == before
        note("three")
        assert kinds(database) == [*before, "three"]

    def test_what_there_is_can_be_committed_before_the_end(self, database, note):
        before = kinds(database)
        with database.joined():
            note("one")
            database.settle()
            assert kinds(database) == [*before, "one"]
            note("two")
            assert kinds(database) == [*before, "one"]
        database.settle()
        assert kinds(database) == [*before, "one", "two"]

    def test_other_threads_have_no_part_in_it(self, database, note):
        before = kinds(database)
        with database.joined():
            thread = threading.Thread(target=note, args=("elsewhere",))
            thread.start()
            thread.join()
            assert kinds(database) == [*before, "elsewhere"]

    def test_nothing_written_is_no_transaction(self, database):
        with database.joined(), database.session() as session:
            assert kinds(database, session) == kinds(database)

"""One database: where it is, how it is opened, and its transactions.

>>> import tempfile, pathlib
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> database = Database.open(url_of_run(folder))
>>> with database.begin() as session:      # a write transaction: commits at the end, or nothing is kept
...     pass
>>> with database.session() as session:    # a consistent snapshot to read from
...     pass
>>> database.dispose()
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from . import migrate
from .engine import make_engine, parse_url, sqlite_file
from .errors import UserError
from .joint import Joint
from .outages import is_away, patiently
from .types import utc_now

DATABASE_FILE = "nearedge.db"
_RETRIES = 6
_FIRST_PAUSE_SECONDS = 0.05
_Result = TypeVar("_Result")


def url_of_run(folder: str | Path) -> str:
    """URL of the SQLite database of a run directory."""
    path = str(Path(folder).absolute() / DATABASE_FILE)
    return URL.create("sqlite", database=path).render_as_string()


class ReadSession(Session):
    """A session of a read transaction: changes made to its rows are a mistake, not silently lost."""

    def flush(self, objects: Any = None) -> None:
        """Refuse to write."""
        if self.new or self.deleted or any(self.is_modified(row) for row in self.dirty):
            raise RuntimeError("this session only reads: write inside Database.begin()")


class Database:
    """A NearEdge database. Pickles as its URL, so worker processes reopen it."""

    def __init__(self, url: str) -> None:
        """Use the database at ``url``, which is known to exist and to be current; else :meth:`open` it."""
        self.url = url
        self.engine: Engine = make_engine(parse_url(url))
        self._writing = self.engine.execution_options(nearedge_write=True)
        self._writing_unsynced = self.engine.execution_options(nearedge_write=True, nearedge_unsynced=True)
        self._joint = Joint()

    @classmethod
    def open(cls, url: str, create: bool = True) -> "Database":
        """Open a database and bring it to the newest revision.

        Args:
            url: an SQLAlchemy URL: ``sqlite:///RUN_DIR/nearedge.db`` or ``postgresql://user@host/name``.
            create: whether a missing SQLite file is made; its directory must exist.

        Raises:
            UserError: malformed URL, missing or unwritable place, unreachable server, or a database
                written by a newer NearEdge.
        """
        parsed = parse_url(url)
        _check_place(parsed, create)
        database = cls(url)
        try:
            database.upgrade()
        except (DBAPIError, UserError) as error:
            database.dispose()
            if isinstance(error, UserError):
                raise
            raise _cannot_open(parsed, error) from error
        return database

    @classmethod
    def inspect(cls, url: str) -> "Database":
        """Use an existing database as it is, of whatever revision; raises UserError as :meth:`open` does."""
        parsed = parse_url(url)
        _check_place(parsed, create=False)
        database = cls(url)
        try:
            database.revision()
        except DBAPIError as error:
            database.dispose()
            raise _cannot_open(parsed, error) from error
        return database

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded back end."""
        return self.engine.dialect.name == "sqlite"

    def upgrade(self) -> str:
        """Migrate to the newest revision if needed; returns it."""
        with self.engine.connect() as connection:
            if migrate.check_known(connection) == migrate.head():
                return migrate.head()
        with self._writing.begin() as connection:
            return migrate.upgrade(connection)

    def revision(self) -> str | None:
        """Revision of the database."""
        with self.engine.connect() as connection:
            return migrate.current(connection)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A read transaction; rows stay readable after it ends, and writing through it is refused.

        It begins when the server is there: one that is away is waited for. Inside of :meth:`joined` it sees what
        has been written there.
        """
        if self._joint.has_begun:
            with self._joint.part(lambda: self._own(self._writing_unsynced)) as session:
                yield session
            return
        with ReadSession(self.engine, expire_on_commit=False) as session:
            patiently(session.connection)
            yield session

    @contextmanager
    def begin(self, synced: bool = True) -> Iterator[Session]:
        """A write transaction: commits at the end, rolls back when an exception leaves it.

        An SQLite commit that is not ``synced`` does not wait for the disk. Killed processes lose nothing by that;
        after a power failure the database is as it was some commits ago, the last synced one or a later.

        On SQLite it takes the write lock at once (``BEGIN IMMEDIATE``), waiting up to 30 s and then retrying,
        so nothing inside it can fail with "database is locked". A server that is away is waited for.
        """
        if synced:
            self._joint.commit()
        if synced or not self._joint.is_open:
            with self._own(self._writing if synced else self._writing_unsynced) as session:
                yield session
        else:
            with self._joint.part(lambda: self._own(self._writing_unsynced)) as session:
                yield session

    @contextmanager
    def _own(self, engine: Engine) -> Iterator[Session]:
        with Session(engine, expire_on_commit=False) as session:
            patiently(lambda: retry_on_conflict(session.connection))
            yield session
            session.commit()

    def joined(self) -> AbstractContextManager[None]:
        """A block in which all unsynced transactions of this thread are one, which commits when the block ends.

        A synced one inside commits what came before it and stays apart. Nobody else sees what is written, and on
        SQLite nobody else can write, before the end: it is for a burst of short transactions, not for waiting.
        What one of them raises undoes all since the last commit. A transaction inside another one is refused.
        """
        return self._joint.gathering()

    def settle(self) -> None:
        """Inside of :meth:`joined`: commit what there is, before something that takes longer. Nothing elsewhere."""
        self._joint.commit()

    def run(self, work: Callable[[Session], _Result], synced: bool = True) -> _Result:
        """Run ``work(session)`` in a write transaction, again from the start after a broken deadlock or connection.

        ``work`` should touch nothing but the session. ``synced`` is that of :meth:`begin`.
        """

        def attempt() -> _Result:
            with self.begin(synced) as session:
                return work(session)

        if self._joint.is_open and not synced:
            return attempt()  # what came before it cannot be done again here
        # SQLite has one writer, who waited for the lock in begin(): a second round could only wait again.
        return attempt() if self.is_sqlite else patiently(lambda: retry_on_conflict(attempt))

    def now(self, session: Session) -> datetime:
        """The time by the clock that all users of the database share: the server's, or this machine's."""
        if self.is_sqlite:
            return utc_now()
        moment = session.scalar(text("SELECT CURRENT_TIMESTAMP"))
        if not isinstance(moment, datetime):
            raise RuntimeError(f"the database gave no time: {moment!r}")
        return moment.astimezone(UTC)

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()

    def __reduce__(self) -> tuple[type["Database"], tuple[str]]:
        return (Database, (self.url,))


def retry_on_conflict(attempt: Callable[[], _Result]) -> _Result:
    """Call ``attempt``, again with growing pauses while the database is locked or a deadlock was broken."""
    pause = _FIRST_PAUSE_SECONDS
    for _ in range(_RETRIES):
        try:
            return attempt()
        except OperationalError as error:
            if not is_conflict(error):
                raise
        time.sleep(pause)
        pause *= 2
    return attempt()


def is_conflict(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed if tried again."""
    state = getattr(error.orig, "sqlstate", None)  # PostgreSQL: serialization failure, deadlock
    return state in ("40001", "40P01") or "database is locked" in str(error.orig)


def passes(error: DBAPIError) -> bool:
    """Whether it says that the server is away or has undone the transaction, rather than what is wrong with it."""
    return is_away(error) or is_conflict(error)


def _check_place(url: URL, create: bool) -> None:
    """Refuse a missing or unwritable directory before SQLite answers with its unclear message."""
    if url.get_backend_name() != "sqlite":
        return
    path = sqlite_file(url)
    if not path.parent.is_dir():
        raise UserError(
            "the directory of the database does not exist", got=path.parent, fix="create it first"
        )
    if not path.exists() and not create:
        raise UserError(
            "there is no NearEdge database here",
            got=path,
            fix="give the run directory of a campaign with --dir, or start one with `nearedge run`",
        )
    if not _writable(path):
        raise UserError(
            "cannot write to the database",
            got=path,
            fix="give a directory that you can write to, or mend its permissions",
        )


def _writable(path: Path) -> bool:
    """Whether SQLite can write the file and, beside it, its log."""
    return os.access(path.parent, os.W_OK | os.X_OK) and (not path.exists() or os.access(path, os.W_OK))


def _cannot_open(url: URL, error: DBAPIError) -> UserError:
    shown = url.render_as_string(hide_password=True)
    reason = " ".join(str(error.orig).split())
    if url.get_backend_name() == "sqlite":
        return UserError(
            f"cannot open the database ({reason})", got=shown, fix="give the path of a NearEdge database"
        )
    return UserError(
        f"cannot use the database ({reason})",
        got=shown,
        fix="check server, name and user of that address (`database` of a campaign's settings, or --url)",
    )

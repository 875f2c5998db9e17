"""A database server that is away for a while: restarted, failed over, or out of reach.

Whoever has a transaction to begin waits for it. One that is cut off in the middle is done again where
it was given as a function (`Database.run`), and fails where it was not.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError

PATIENCE_S = 120.0
"""How long a server may be away. Leases that end meanwhile are kept where nobody else took them."""
_PAUSE_S = 0.5
_SHUTTING_DOWN = ("57P01", "57P02", "57P03")
"""PostgreSQL: ended by an administrator, by a crash, or not up yet."""
_CONNECTION = "08"
"""Class of PostgreSQL's errors of the connection itself."""

_Result = TypeVar("_Result")


def patiently(attempt: Callable[[], _Result], errors: tuple[type[Exception], ...] = (DBAPIError,)) -> _Result:
    """Call ``attempt``, again and again while the server is away, for up to ``PATIENCE_S``.

    Args:
        attempt: may be called several times.
        errors: what it raises then: the database's own error, or one that has it as its cause.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return attempt()
        except errors as error:
            if not (is_away(error) or is_away(error.__cause__)) or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def is_away(error: BaseException | None) -> bool:
    """Whether the error says that there is no connection to the server, rather than what is wrong with a statement."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in _SHUTTING_DOWN or state.startswith(_CONNECTION)
    # psycopg names no state where it gets no connection, or loses it; SQLite's errors have none of this
    return isinstance(error, OperationalError) and (error.connection_invalidated or _is_psycopg(error.orig))


def _is_psycopg(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] == "psycopg"

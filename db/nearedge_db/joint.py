"""Several short transactions of one thread as a single one: a commit costs more than what most of them write.

>>> with database.joined():                                             # doctest: +SKIP
...     with database.begin(synced=False) as session:                   # the first begins it
...         set_candidate_state(session, 3, CandidateState.LABELLED)
...     with database.begin(synced=False) as session:                   # this one is part of it
...         set_candidate_state(session, 4, CandidateState.QUEUED)
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from sqlalchemy.orm import Session

Begin = Callable[[], AbstractContextManager[Session]]
"""A transaction of its own, which commits at the end."""


class Joint(threading.local):
    """The transaction of a thread that those inside :meth:`gathering` are parts of; it begins with the first."""

    def __init__(self) -> None:
        self.is_open = False
        self.has_begun = False
        self._is_undone = False
        self._is_in_part = False
        self._session: Session | None = None
        self._stack = ExitStack()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Commit the parts when the block ends, also where an exception ends it that is none of theirs."""
        if self.is_open:
            yield
            return
        self.is_open = True
        try:
            yield
            if self._is_undone:
                raise RuntimeError("a transaction failed and took those before it along, and nobody gave up")
        finally:
            self.is_open = self._is_undone = False
            self.commit()

    def commit(self) -> None:
        """Commit what there is; others may follow. Raises RuntimeError inside of a part, which is not all there."""
        if self._is_in_part:
            raise RuntimeError("a transaction that stands alone inside one that is joined to others")
        try:
            self._end().close()
        except BaseException:
            self._is_undone = self.is_open
            raise

    @contextmanager
    def part(self, begin: Begin) -> Iterator[Session]:
        """One of the transactions that are gathered; its rows stay readable, and the next reads them anew.

        What it raises undoes those before it too, and none can follow: who gathers them has to give up.
        """
        if self._is_undone:
            raise RuntimeError("a transaction before this one has failed, and taken it along")
        if self._is_in_part:
            raise RuntimeError("a transaction inside another one of the same block: pass its session on")
        if self._session is None:
            self._session = self._stack.enter_context(begin())
            self.has_begun = True
        self._is_in_part = True
        try:
            yield self._session
            self._session.flush()
            self._session.expunge_all()
        except BaseException as error:
            self._is_undone = True
            self._end().__exit__(type(error), error, error.__traceback__)
            raise
        finally:
            self._is_in_part = False

    def _end(self) -> ExitStack:
        stack, self._stack, self._session, self.has_begun = self._stack, ExitStack(), None, False
        return stack

"""The absorbers of one label: several at once, here and elsewhere, and finished ones kept when another fails."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from threading import Event

from nearedge_services.oracles.elsewhere import Compute, Ended, Helpers, Row, Wish, helpers_for
from nearedge_services.oracles.errors import MissingData, NotFinite
from nearedge_services.oracles.external import allowance, check_allowance
from nearedge_services.oracles.per_absorber import Finished, RunSettings, seconds_of

_LOOK_S = 0.25
_MOST_LOST = 2
"""How often an absorber is given away again after its process was lost; from then on it is calculated here."""


def each_absorber(
    absorbers: Sequence[int], compute: Compute, finished: Finished, run: RunSettings
) -> dict[int, Row]:
    """``compute`` of every absorber that is not finished yet: ``run.workers`` at a time here, and further ones
    elsewhere, where there is room (`elsewhere.helped_by`).

    The first error is raised, after those that were running have ended and been kept; the others are not begun. Where
    the caller itself is interrupted, by Ctrl-C or otherwise, programs that are running are ended. Raises
    OracleCancelled and OracleTimeout as the caller's `external.allowance` says.
    """
    rows = {one: row for one in absorbers if (row := finished.load(one)) is not None}
    finished.reused_s += sum(seconds_of(row) for row in rows.values()) / run.workers
    course = _Course([one for one in absorbers if one not in rows], compute, finished, run.workers)
    wish = Wish(compute, run.workers, run.elsewhere, run.memory_gib)
    interrupted = Event()
    with (
        allowance(cancelled=interrupted.is_set),
        ThreadPoolExecutor(max_workers=run.workers) as pool,
        helpers_for(wish) as helpers,
    ):
        try:
            while course.goes_on:
                course.begin(pool, helpers)
                course.collect(helpers)
        except BaseException:
            interrupted.set()  # the pool waits for its threads
            raise
    if course.failed is not None:
        raise course.failed
    return rows | course.rows


class _Course:
    """What waits, what is under way and what has ended."""

    def __init__(self, absorbers: Sequence[int], compute: Compute, finished: Finished, workers: int) -> None:
        self.rows: dict[int, Row] = {}
        self.failed: BaseException | None = None
        self._waiting = deque(absorbers)
        self._compute, self._finished, self._workers = compute, finished, workers
        self._here: dict[Future[Row], int] = {}
        self._elsewhere: set[int] = set()
        self._own: set[int] = set()
        """Of those that wait: for here alone, because elsewhere it came to nothing."""
        self._lost: dict[int, int] = {}

    @property
    def goes_on(self) -> bool:
        """Whether there is something to wait for."""
        return bool(self._here or self._elsewhere or (self._waiting and self.failed is None))

    def begin(self, pool: ThreadPoolExecutor, helpers: Helpers) -> None:
        """Begin as many as there is room for: from the front here, from the back elsewhere."""
        if self.failed is not None:
            return
        while self._waiting and len(self._here) < self._workers:
            one = self._waiting.popleft()
            # each thread gets the caller's limits (`external.allowance`), which are context variables
            self._here[pool.submit(copy_context().run, self._work, one)] = one
        givable = [one for one in self._waiting if one not in self._own]
        for one in givable[::-1][: helpers.offer(len(givable))]:
            helpers.begin(one)
            self._waiting.remove(one)
            self._elsewhere.add(one)

    def collect(self, helpers: Helpers) -> None:
        """Take what has ended within a moment."""
        for ended in helpers.ended(0 if self._here else _LOOK_S):
            self._take(ended)
        if self._elsewhere:
            check_allowance()  # what is done here looks itself
        done, _ = wait(self._here, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        for future in done:
            one, error = self._here.pop(future), future.exception()
            if error is None:
                self.rows[one] = future.result()
            else:
                self.failed = self.failed or error

    def _take(self, ended: Ended) -> None:
        """A helper's row is kept, its error is the label's, and what was lost waits again."""
        one = ended.absorber
        self._elsewhere.discard(one)
        if ended.row is not None:
            try:
                self._finished.keep(one, ended.row)
            except NotFinite as error:
                self.failed = self.failed or error
                return
            self._finished.reused_s += seconds_of(ended.row) / self._workers
            self.rows[one] = ended.row
        elif ended.error is None or isinstance(
            ended.error, MissingData
        ):  # of that machine, not of the structure
            self._lost[one] = self._lost.get(one, 0) + 1
            if ended.error is not None or self._lost[one] > _MOST_LOST:
                self._own.add(one)
            self._waiting.appendleft(one)
        else:
            self.failed = self.failed or ended.error

    def _work(self, absorber: int) -> Row:
        check_allowance()
        return self._finished.compute(absorber, lambda: self._compute(absorber))

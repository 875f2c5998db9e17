"""What the journal of the oracle and the ledger of the campaign say about each other."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from nearedge.bench.chaos.journal import Line
from nearedge.bench.chaos.plan import Victim


@dataclass(frozen=True)
class Kill:
    """A ``kill -9`` that was carried out: when (seconds since the epoch), and the numbers of the processes."""

    victim: Victim
    time: float
    pids: tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """A label's task in the ledger at the end.

    Attributes:
        state: of the task.
        finished: when it was finished, seconds since the epoch; None where it is not.
        labels: number of the label rows of its structure.
        tasks: number of label tasks of its structure.
        error: last error.
    """

    state: str
    finished: float | None
    labels: int
    tasks: int
    error: str | None


@dataclass(frozen=True)
class Attempt:
    """One calculation of one structure; times in seconds since the epoch.

    Attributes:
        key: hash of the structure.
        pid, birth: the process.
        begun: when it began.
        ended: when its label was there; None where it never was.
        failed: when it failed by a planned fault or otherwise; None where it did not.
        note: what failed.
        beside: whether another process that lived had the structure at the time.
    """

    key: str
    pid: int
    birth: str
    begun: float
    ended: float | None = None
    failed: float | None = None
    note: str = ""
    beside: bool = False


def attempts(lines: Iterable[Line]) -> dict[str, list[Attempt]]:
    """The calculations of every structure, in the order in which they began."""
    found: dict[str, list[Attempt]] = {}
    for line in lines:
        of_key = found.setdefault(line.key, [])
        if line.what == "begun":
            of_key.append(Attempt(line.key, line.pid, line.birth, line.time))
            continue
        own = max(n for n, one in enumerate(of_key) if (one.pid, one.birth) == (line.pid, line.birth))
        of_key[own] = _with(of_key[own], line)
    return found


def _with(attempt: Attempt, line: Line) -> Attempt:
    if line.what == "ended":
        return replace(attempt, ended=line.time)
    if line.what == "beside":
        return replace(attempt, beside=True)
    return replace(attempt, failed=line.time, note=line.note)


def lost(
    tried: Mapping[str, Sequence[Attempt]], seen: Mapping[str, int], labels: Mapping[str, int]
) -> list[str]:
    """Structures whose label was there, by the oracle or in the database, and is not there at the end.

    ``seen`` has the number of each label row that was in the database at any time, ``labels`` of those at the end.
    """
    computed = {key for key, ones in tried.items() if any(one.ended is not None for one in ones)}
    gone = {key for key, number in seen.items() if labels.get(key) != number}
    return sorted(gone | (computed - set(labels)))


def twice(tried: Mapping[str, Sequence[Attempt]], ledger: Mapping[str, Entry]) -> list[str]:
    """Structures that were computed though another process had them, or though their label was there already.

    Also those with two tasks or two label rows.
    """
    found = {key for key, entry in ledger.items() if entry.labels > 1 or entry.tasks > 1}
    for key, ones in tried.items():
        entry = ledger.get(key)
        done = None if entry is None or entry.state != "DONE" else entry.finished
        late = done is not None and any(one.begun > done for one in ones)
        if late or any(one.beside for one in ones) or _repeated_by_one(ones):
            found.add(key)
    return sorted(found)


def _repeated_by_one(ones: Sequence[Attempt]) -> bool:
    """Whether a process began again what it had ended."""
    ended: set[tuple[int, str]] = set()
    for one in ones:
        if (one.pid, one.birth) in ended:
            return True
        if one.ended is not None:
            ended.add((one.pid, one.birth))
    return False


@dataclass(frozen=True)
class Again:
    """A calculation that had to be done again: which, how much of it was wasted (s), and because of what."""

    attempt: Attempt
    seconds: float
    cause: str | None
    """None where nothing that the bench did explains it."""


def again(tried: Mapping[str, Sequence[Attempt]], kills: Sequence[Kill]) -> list[Again]:
    """Every calculation that was followed by another one of the same structure."""
    found = []
    for ones in tried.values():
        for one, following in pairwise(ones):
            cause, until = _cause(one, following.begun, kills)
            found.append(Again(one, max(0.0, until - one.begun), cause))
    return sorted(found, key=lambda each: each.attempt.begun)


def _cause(one: Attempt, next_begun: float, kills: Sequence[Kill]) -> tuple[str | None, float]:
    """Why a calculation came to nothing, and when that was known."""
    if one.failed is not None:
        # one that hangs goes on until somebody ends it
        return one.note, next_begun if one.note == "hang" else one.failed
    meanwhile = [kill for kill in kills if one.begun <= kill.time <= next_begun]
    hit = next((kill for kill in meanwhile if one.pid in kill.pids), None)
    # the workers of a driver that was killed are ended by Ray
    hit = hit or next((kill for kill in meanwhile if kill.victim == "driver"), None)
    return (None, next_begun) if hit is None else (f"{hit.victim} killed", hit.time)

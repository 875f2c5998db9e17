"""How many actors each pool has: decided from what the nodes hold and from what waits. Pure functions, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SETTLE_S = 5.0
"""Work must have waited so long before a pool grows for it: a process takes about that long to start."""
LINGER_S = 60.0
"""An actor beyond its pool's ``size`` stays so long without work, unless its place is wanted."""
TURN_S = 60.0
"""Where pools take turns: how long a turn lasts at least, and how long work waits before its turn is due."""

Amounts = Mapping[str, float]
"""Resources by Ray's names."""

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Demand:
    """One pool: what an actor of it reserves, how many it may have, and what is going on in it."""

    name: str
    asks: Amounts
    size: int
    """Actors that it has a right to."""
    most: int
    """Actors that it may grow to."""
    held: int = 0
    """Actors that it has now, or waits for."""
    busy: int = 0
    """Actors with work, and free or starting ones that will have some."""
    waiting: int = 0
    """Pieces of work for which it has no actor, for ``SETTLE_S`` at least."""
    starving_s: float = 0.0
    """How long its work has waited while none of its actors worked."""
    turn_s: float = float("inf")
    """How long ago it went from no working actor to one."""
    lingers: bool = False
    """Whether its idle actors have not been idle for long."""

    @property
    def needs(self) -> int:
        """Actors that would have work now."""
        return min(self.busy + self.waiting, self.most)


def plan(
    nodes: Sequence[Amounts], demands: Sequence[Demand], elsewhere: Sequence[Amounts] = ()
) -> dict[str, int]:
    """Actors that each pool is to have. They fit on the nodes, whose total amounts are given.

    In this order, as long as there is room, and one actor for each pool in turn:

    1. one for every pool; where there is no room for that, in the order of ``_turn``;
    2. what has work, up to ``size``;
    3. what has work, up to ``most``: of idle pools the actors beyond the first give their place;
    4. every pool up to its ``size``;
    5. what has been idle for a short time only.

    The order of ``demands`` decides between equals. ``elsewhere`` is what is known to be used by others. There is
    always one actor at least: somebody must go on asking.
    """
    room = _Room(nodes)
    for asks in elsewhere:
        room.take(asks)
    given = {demand.name: 0 for demand in demands}
    for demand in sorted(demands, key=_turn):
        given[demand.name] += room.take(demand.asks)
    for wanted in (
        {d.name: min(d.needs, d.size) for d in demands},
        {d.name: d.needs for d in demands},
        {d.name: d.size for d in demands},
        {d.name: min(d.held, d.most) if d.lingers else 0 for d in demands},
    ):
        _fill(room, demands, given, wanted)
    if demands and not any(given.values()):
        given[min(demands, key=_turn).name] = 1
    return given


def _turn(demand: Demand) -> tuple[int, float]:
    """Whose turn it is where not every pool can have an actor; the smallest first.

    Who has begun its turn, who has waited longest for one, who works, who has work, who has an actor, the others.
    """
    has_work = demand.busy > 0 or demand.waiting > 0
    if demand.held and has_work and demand.turn_s < TURN_S:
        return (0, 0.0)
    if demand.starving_s >= TURN_S:
        return (1, -demand.starving_s)
    if demand.held and has_work:
        return (2, 0.0)
    if has_work:
        return (3, -demand.starving_s)
    return (4, 0.0) if demand.held else (5, 0.0)


def _fill(room: "_Room", demands: Sequence[Demand], given: dict[str, int], wanted: Mapping[str, int]) -> None:
    """Give each pool what it wants, one in turn, while there is room."""
    open_ones = [demand for demand in demands if given[demand.name] < wanted[demand.name]]
    while open_ones:
        still = []
        for demand in open_ones:
            if room.take(demand.asks):
                given[demand.name] += 1
                if given[demand.name] < wanted[demand.name]:
                    still.append(demand)
        open_ones = still


class _Room:
    """What is left on the nodes."""

    def __init__(self, nodes: Sequence[Amounts]) -> None:
        self._left = [dict(node) for node in nodes]

    def take(self, asks: Amounts) -> bool:
        """Reserve this on the node where least is left of it; False where no node has it."""
        fitting = [
            left
            for left in self._left
            if all(left.get(key, 0.0) >= amount - _ROUNDING for key, amount in asks.items())
        ]
        if not fitting:
            return False
        tightest = min(fitting, key=lambda left: sum(left[key] / asks[key] for key in asks))
        for key, amount in asks.items():
            tightest[key] -= amount
        return True


@dataclass
class Watch:
    """Since when a pool's work waits and its actors are idle; times in seconds of one clock."""

    _waits_since: float | None = None
    _starves_since: float | None = None
    _idle_since: float | None = None
    _turn_since: float | None = None

    def look(self, now: float, *, waiting: int, busy: int, idle: int) -> None:
        """Take note of what there is now: work without an actor, actors with work, actors without."""
        if busy == 0:
            self._turn_since = None
        elif self._turn_since is None:
            self._turn_since = now
        self._waits_since = _since(self._waits_since, now, waiting > 0)
        self._starves_since = _since(self._starves_since, now, waiting > 0 and busy == 0)
        self._idle_since = _since(self._idle_since, now, idle > 0)

    def waits(self, now: float) -> bool:
        """Whether work has waited for long enough."""
        return self._waits_since is not None and now - self._waits_since >= SETTLE_S

    def lingers(self, now: float) -> bool:
        """Whether no actor has been idle for long."""
        return self._idle_since is None or now - self._idle_since < LINGER_S

    def starving_s(self, now: float) -> float:
        """How long work has waited without any that is done."""
        return 0.0 if self._starves_since is None else now - self._starves_since

    def turn_s(self, now: float) -> float:
        """How long it has worked without a break; for ever where it does not work."""
        return float("inf") if self._turn_since is None else now - self._turn_since


def _since(before: float | None, now: float, holds: bool) -> float | None:
    """Since when something holds, if it does."""
    return (now if before is None else before) if holds else None

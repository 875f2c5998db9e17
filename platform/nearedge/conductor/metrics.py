"""What Prometheus is told of a campaign: by the driver, through the exporter that every node of Ray has.

Ray puts ``ray_`` before the names. All have the tag ``campaign``, those of pools ``pool`` too.
"""

import math
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from nearedge_agents.pool import Done, Pool, Usage
from nearedge_agents.worker import TaskReport
from nearedge_db.states import TaskState

SECONDS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Bounds of the buckets of the time that one piece of work takes."""

OF_POOL = ("campaign", "pool")


class Metrics:
    """The counters and gauges of one campaign in this process."""

    def __init__(self, campaign: str) -> None:
        self._campaign = {"campaign": campaign}
        self._work = Counter(
            "nearedge_work",
            "Pieces of work that ended, by outcome: done, failed, lost.",
            (*OF_POOL, "outcome"),
        )
        self._seconds = Histogram(
            "nearedge_work_seconds", "Seconds that one piece of work took.", SECONDS, OF_POOL
        )
        self._busy = Counter("nearedge_busy_seconds", "Seconds in which actors had work.", OF_POOL)
        self._capacity = Counter("nearedge_actor_seconds", "Seconds that there were actors.", OF_POOL)
        self._occupancy = Gauge(
            "nearedge_occupancy", "Share of the actors' time with work, of late, 0 to 1.", OF_POOL
        )
        self._actors = Gauge(
            "nearedge_actors", "Actors, by state: busy, free, starting.", (*OF_POOL, "state")
        )
        self._waiting = Gauge("nearedge_waiting", "Pieces of work without an actor.", OF_POOL)
        self._labels = Gauge("nearedge_labels", "Labels by role: guided, baseline.", ("campaign", "role"))
        self._best = Gauge(
            "nearedge_best_distance_per_ev",
            "Smallest spectral distance of a guided structure, 1/eV.",
            ("campaign",),
        )

    def ended(self, pool: str, done: Done) -> None:
        """Count a piece of work; a task that its worker reports as failed has failed."""
        tags = {**self._campaign, "pool": pool}
        self._work.inc(1, {**tags, "outcome": outcome(done)})
        if not done.lost:
            self._seconds.observe(done.seconds, tags)

    def used(self, pool: str, usage: Usage) -> None:
        """Add the time that a pool has used since the last call."""
        tags = {**self._campaign, "pool": pool}
        if usage.capacity > 0:
            if usage.busy > 0:
                self._busy.inc(usage.busy, tags)
            self._capacity.inc(usage.capacity, tags)
            self._occupancy.set(usage.busy / usage.capacity, tags)

    def look(self, pools: Mapping[str, Pool], waiting: Mapping[str, int]) -> None:
        """What there is now."""
        for name, pool in pools.items():
            tags = {**self._campaign, "pool": name}
            states = {"busy": len(pool.under_way), "free": pool.free, "starting": pool.starting}
            for state, count in states.items():
                self._actors.set(count, {**tags, "state": state})
            self._waiting.set(waiting[name], tags)

    def progress(self, labels: Mapping[str, int], best_distance: float) -> None:
        """Labels by role, and the best distance (1/eV), which is infinite before there is one."""
        for role, count in labels.items():
            self._labels.set(count, {**self._campaign, "role": role})
        if math.isfinite(best_distance):
            self._best.set(best_distance, self._campaign)


def outcome(done: Done) -> str:
    """``done``, ``failed``, or ``lost`` with the actor.

    >>> outcome(Done(Work("work", (1,), tag=1), lost=True))      # doctest: +SKIP
    'lost'
    """
    if done.lost:
        return "lost"
    report = done.value
    has_failed = isinstance(report, TaskReport) and report.state is not TaskState.DONE
    return "failed" if has_failed or done.error is not None else "done"

"""A pool of equal Ray actors: who is free, what is under way, how busy it was."""

import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from nearedge_agents.agent import Agent, Outcome
from nearedge_db.errors import one_line

logger = logging.getLogger(__name__)

DEATHS = (RayActorError, NodeDiedError, OutOfMemoryError, WorkerCrashedError)
UNANSWERED = (ObjectLostError, GetTimeoutError)
LOSSES = (*DEATHS, *UNANSWERED)
AGAIN_S = 1.0
"""How long to wait after a process has died while it started, or could not be made; twice as long each time after."""
AGAIN_MOST_S = 60.0
"""The longest such wait."""
FORGOTTEN_S = 600.0
"""After so long without another the waits begin anew."""
GET_S = 10.0
"""Ray may never give an answer that it said was there, where the node that had it is lost: the actor counts as lost."""

PULSE_S = 2.0
"""How often actors without work are asked whether they are there: one that has died would not be missed before it
is to work."""


class AnswerLostError(Exception):
    """An answer that was there has not come; no `TimeoutError`, which would say that the work took too long."""


@dataclass(frozen=True)
class Work:
    """One call for one actor: the method, its arguments, and what the caller needs to recognise the answer."""

    method: str
    args: tuple[Any, ...]
    tag: Any
    upkeep: bool = False
    """Done for the machinery, not for the campaign: no time of it counts as busy."""


@dataclass(frozen=True)
class Done:
    """A finished call. ``error`` is None on success; ``lost`` says that the actor died under the work.

    ``actor`` is then its id: the ledger has it in the owner of the lease.
    """

    work: Work
    value: Any = None
    error: Exception | None = None
    lost: bool = False
    actor: str = ""
    seconds: float = 0.0
    """How long the actor had it."""
    leaves: bool = False
    """Whether the actor ends after it; the one in its place is asked for after a pause."""


@dataclass
class Usage:
    """Time accounted since the last report, in seconds; capacity is actors × wall time."""

    busy: float = 0.0
    capacity: float = 0.0
    cpu: float = 0.0
    tasks: int = 0


@dataclass
class _Slot:
    """One actor; it has no work before its process is up."""

    actor: ActorHandle
    ready: Any
    """Answers when the process is up; it waits for that while no node has room."""
    is_up: bool = False
    work: Work | None = None
    since: float = 0.0
    ref: Any = None
    is_overdue: bool = False
    """Whether the process was killed because the work took too long."""
    is_leaving: bool = False
    """Whether it ends when its work is done."""
    pulse: Any = None
    """Answers where the process is still there; None where it was not asked."""

    @property
    def name(self) -> str:
        """Ray's id of the actor."""
        return self.actor._actor_id.hex()

    @property
    def is_free(self) -> bool:
        return self.is_up and self.work is None and not self.is_leaving

    def busy_since(self, mark: float) -> float:
        """Seconds of work since the mark."""
        if self.work is None or self.work.upkeep:
            return 0.0
        return time.monotonic() - max(self.since, mark)


@dataclass
class Pool:
    """``size`` actors of one class. One that dies is replaced, on any node; its work comes back as lost."""

    name: str
    actor_class: type[Agent]
    size: int
    options: dict[str, Any]
    args: tuple[Any, ...] = ()
    limit_s: float | None = None
    """Longest time of one piece of work; a process that takes longer is killed, and its work is lost."""
    campaign: str = ""
    logs: Path | None = None
    """Folder to which the actors append what they do; see ``logs.py``."""
    _slots: list[_Slot] = field(default_factory=list, repr=False)
    _usage: Usage = field(default_factory=Usage, repr=False)
    _mark: float = field(default_factory=time.monotonic, repr=False)
    _counted: float = field(default_factory=time.monotonic, repr=False)
    """Until when the capacity is accounted."""
    _not_before: float = field(default=float("-inf"), repr=False)
    _pause_s: float = field(default=AGAIN_S, repr=False)
    """The last wait for a new actor."""
    _up_at: float = field(default=float("-inf"), repr=False)
    """When an actor was up last."""
    _unmade: RayActorError | None = field(default=None, repr=False)
    """What kept the last one that did not come up from being made; None where its process was lost."""
    _pulse_at: float = field(default=0.0, repr=False)

    def start(self) -> None:
        """Create the actors; returns at once, before they are up."""
        self._mark = self._counted = time.monotonic()
        self._fill()

    @property
    def free(self) -> int:
        """Number of actors that can take work."""
        return sum(slot.is_free for slot in self._slots)

    @property
    def starting(self) -> int:
        """Number of actors that are not up yet, or for which no node has room."""
        return sum(not slot.is_up for slot in self._slots)

    @property
    def leaving(self) -> int:
        """Number of actors beyond ``size`` that finish what they do."""
        return sum(slot.is_leaving for slot in self._slots)

    @property
    def under_way(self) -> list[Work]:
        """What the actors are doing."""
        return [slot.work for slot in self._slots if slot.work is not None]

    @property
    def refs(self) -> list[Any]:
        """The Ray references to wait on."""
        return [slot.ref for slot in self._slots if slot.ref is not None]

    def resize(self, size: int) -> None:
        """Have ``size`` actors: further ones are asked for; of too many those without work end, the others after it."""
        self._count_capacity()
        self._log("pool resized", size=size, before=self.size)
        self.size = size
        staying = [slot for slot in self._slots if not slot.is_leaving]
        staying.sort(key=lambda slot: (slot.work is not None, slot.is_up))
        for slot in staying[: max(len(staying) - size, 0)]:
            if slot.work is None:
                self._end(slot)
            else:
                slot.is_leaving = True
        self._fill()

    def submit(self, work: Work) -> None:
        """Give ``work`` to a free actor. Raises RuntimeError when there is none."""
        slot = next((slot for slot in self._slots if slot.is_free), None)
        if slot is None:
            raise RuntimeError(f"pool {self.name} has no free actor")
        slot.work, slot.since = work, time.monotonic()
        slot.ref = slot.actor.perform.remote(work.method, *work.args)

    def tend(self) -> None:
        """See which processes are up, replace those that died, and end those whose work has taken too long.

        Their work comes back as lost. Raises what kept an actor from being made where no actor of those asked for could
        be made: the next would fail as well. Where one was up within `FORGOTTEN_S`, something is missing on one node.
        """
        self._greet()
        if any(slot.is_up for slot in self._slots):
            self._up_at = time.monotonic()
        self._feel_pulses()
        self._fill()
        if self.limit_s is None:
            return
        for slot in self._slots:
            if slot.work is None or slot.work.upkeep or slot.is_overdue:
                continue
            if time.monotonic() - slot.since > self.limit_s:
                slot.is_overdue = True
                ray.kill(slot.actor)

    def collect(self, ref: Any) -> Done:
        """Take the answer behind ``ref``, which must be ready, and free its actor."""
        slot = next(slot for slot in self._slots if slot.ref == ref)
        work = slot.work
        if work is None:
            raise RuntimeError(f"pool {self.name} has no work behind {ref}")
        self._usage.busy += slot.busy_since(self._mark)
        slot.work = slot.ref = None
        done = replace(self._answer(slot, work, ref), seconds=time.monotonic() - slot.since)
        if done.leaves:
            self._log("actor leaves", actor=slot.name)
            self._wait()
        if done.lost or done.leaves or slot.is_leaving or slot.is_overdue:
            self._end(slot)
        return done

    def usage(self) -> Usage:
        """Time used since the last call of this method, work under way included."""
        self._count_capacity()
        now = self._counted
        self._usage.busy += sum(slot.busy_since(self._mark) for slot in self._slots)
        report, self._usage, self._mark = self._usage, Usage(), now
        return report

    def stop(self) -> None:
        """Kill the actors; work under way is lost (the ledger knows it)."""
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots = []

    def _answer(self, slot: _Slot, work: Work, ref: Any) -> Done:
        try:
            outcome: Outcome = ray.get(ref, timeout=GET_S)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Done(work, error=cause)
        except LOSSES as error:
            reason: Exception = error
            if isinstance(error, UNANSWERED):
                reason = AnswerLostError(f"the answer was lost ({one_line(error)})")
            if slot.is_overdue:
                reason = TimeoutError(
                    f"ended after more than {self.limit_s:g} s, the limit of pool {self.name}"
                )
            self._log("actor lost", actor=slot.name, error=one_line(reason))
            return Done(work, error=reason, lost=True, actor=slot.name)
        except RayError as error:
            # The answer did not make it here: an error that cannot be unpickled, for example.
            return Done(work, error=error)
        self._usage.cpu += outcome.cpu_seconds
        self._usage.tasks += not work.upkeep
        return Done(work, value=outcome.value, leaves=outcome.leaves)

    def _greet(self) -> None:
        """Take up the processes that have come up, and let go of those that died on the way."""
        starting = {slot.ready: slot for slot in self._slots if not slot.is_up}
        if not starting:
            return
        answered, _ = ray.wait(list(starting), num_returns=len(starting), timeout=0)
        for ready in answered:
            slot = starting[ready]
            try:
                ray.get(ready, timeout=GET_S)
                slot.is_up = True
                self._log("actor up", actor=slot.name)
            except LOSSES as error:
                self._miss(slot, error)
        if not all(slot.is_up for slot in starting.values() if slot.ready in answered):
            self._wait()
        if self._is_hopeless and not self._slots:
            raise self._unmade or RuntimeError(f"no actor of pool {self.name} can be made")

    @property
    def _is_hopeless(self) -> bool:
        """Whether the last one that was asked for could not be made, and none has been up for long or ever."""
        return self._unmade is not None and time.monotonic() - self._up_at > FORGOTTEN_S

    def _miss(self, slot: _Slot, error: RayError) -> None:
        """Let go of an actor that did not come up."""
        self._unmade, what, reason = None, "actor lost while it started", one_line(error)
        if isinstance(error, RayActorError) and error.actor_init_failed:
            last = str(error).strip().splitlines()[-1]  # of the traceback
            self._unmade, what, reason = error, "actor could not be made", one_line(last)
        self._log(what, actor=slot.name, error=reason)
        self._end(slot)

    def _wait(self) -> None:
        """Ask for no actor for a while."""
        now = time.monotonic()
        again = now - self._not_before < FORGOTTEN_S
        self._pause_s = min(2 * self._pause_s, AGAIN_MOST_S) if again else AGAIN_S
        self._not_before = now + self._pause_s

    def _feel_pulses(self) -> None:
        """Let go of actors that have died without work, and ask those without work whether they are there."""
        now = time.monotonic()
        if now < self._pulse_at:
            return
        self._pulse_at = now + PULSE_S
        asked = {slot.pulse: slot for slot in self._slots if slot.pulse is not None}
        answered = ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else []
        for pulse in answered:
            slot = asked[pulse]
            slot.pulse = None
            try:
                ray.get(pulse, timeout=GET_S)
            except LOSSES as error:
                if slot.work is None:  # else its work says so
                    self._log("actor lost without work", actor=slot.name, error=one_line(error))
                    self._end(slot)
        for slot in self._slots:
            if slot.is_free and slot.pulse is None:
                slot.pulse = slot.actor.__ray_ready__.remote()

    def _fill(self) -> None:
        """Ask for the actors that are missing; those that were to leave stay first."""
        missing = self.size - sum(not slot.is_leaving for slot in self._slots)
        for slot in [slot for slot in self._slots if slot.is_leaving][: max(missing, 0)]:
            slot.is_leaving = False
            missing -= 1
        if missing <= 0 or time.monotonic() < self._not_before:
            return
        if self._is_hopeless and self._slots:
            return  # those that are starting say whether another would fail as well
        self._count_capacity()
        remote = ray.remote(self.actor_class).options(**self.options)
        for _ in range(missing):
            actor = remote.remote(*self.args)
            self._slots.append(_Slot(actor, actor.begin.remote(self.campaign, self.name, self.logs)))

    def _end(self, slot: _Slot) -> None:
        """Let go of an actor, which may be dead already."""
        self._count_capacity()
        self._slots.remove(slot)
        ray.kill(slot.actor)

    def _log(self, message: str, **data: Any) -> None:
        level = logging.WARNING if "error" in data else logging.INFO
        logger.log(level, message, extra={"data": {"pool": self.name, **data}})

    def _count_capacity(self) -> None:
        """Account the actors up to now; one that is being replaced counts too."""
        now = time.monotonic()
        self._usage.capacity += max(self.size, len(self._slots)) * (now - self._counted)
        self._counted = now

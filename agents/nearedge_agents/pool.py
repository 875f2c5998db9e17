"""A pool of equal Ray actors: who is free, what is under way, how busy it was."""

import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from nearedge_agents.agent import Agent, Outcome


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


@dataclass
class Usage:
    """Time accounted since the last report, in seconds; capacity is size × wall time."""

    busy: float = 0.0
    capacity: float = 0.0
    cpu: float = 0.0
    tasks: int = 0


@dataclass
class _Slot:
    actor: ActorHandle
    work: Work | None = None
    since: float = 0.0
    ref: Any = None
    is_up: bool = False
    """Whether the process has answered since it was started: before, nobody knows when the work began."""
    ready: Any = None
    """Answers when a process that was not up yet is: its work begins then. Only where that is limited in time."""
    is_overdue: bool = False
    """Whether the process was killed because the work took too long."""

    def busy_since(self, mark: float) -> float:
        """Seconds of work since the mark, for all anybody knows."""
        if self.work is None or self.work.upkeep or not self.is_up:
            return 0.0
        return time.monotonic() - max(self.since, mark)


@dataclass
class Pool:
    """``size`` actors of one class. Ray restarts an actor that dies; its work comes back as lost."""

    name: str
    actor_class: type[Agent]
    size: int
    options: dict[str, Any]
    args: tuple[Any, ...] = ()
    limit_s: float | None = None
    """Longest time of one piece of work; a process that takes longer is killed, and its work is lost."""
    _slots: list[_Slot] = field(default_factory=list, repr=False)
    _usage: Usage = field(default_factory=Usage, repr=False)
    _mark: float = field(default_factory=time.monotonic, repr=False)

    def start(self) -> None:
        """Create the actors; returns at once, before they are up."""
        remote = ray.remote(self.actor_class).options(max_restarts=-1, max_task_retries=0, **self.options)
        self._slots = [_Slot(remote.remote(*self.args)) for _ in range(self.size)]
        self._mark = time.monotonic()

    @property
    def free(self) -> int:
        """Number of actors without work."""
        return sum(slot.work is None for slot in self._slots)

    @property
    def under_way(self) -> list[Work]:
        """What the actors are doing."""
        return [slot.work for slot in self._slots if slot.work is not None]

    @property
    def refs(self) -> list[Any]:
        """The Ray references to wait on."""
        return [slot.ref for slot in self._slots if slot.ref is not None]

    def submit(self, work: Work) -> None:
        """Give ``work`` to a free actor. Raises RuntimeError when there is none."""
        slot = next((slot for slot in self._slots if slot.work is None), None)
        if slot is None:
            raise RuntimeError(f"pool {self.name} has no free actor")
        slot.work, slot.since = work, time.monotonic()
        slot.ready = None
        if self.limit_s is not None and not slot.is_up:
            slot.ready = slot.actor.__ray_ready__.remote()  # calls are answered in order
        slot.ref = slot.actor.perform.remote(work.method, *work.args)

    def end_overdue(self) -> None:
        """Kill the processes whose work has taken too long; it comes back as lost, and Ray starts them again."""
        if self.limit_s is None:
            return
        for slot in self._slots:
            if slot.work is None or slot.work.upkeep or slot.is_overdue:
                continue
            if not slot.is_up:
                # a process that only takes long to start is left alone
                slot.is_up = bool(ray.wait([slot.ready], timeout=0)[0])
                slot.since = time.monotonic()
            if time.monotonic() - slot.since > self.limit_s:
                slot.is_overdue = True
                ray.kill(slot.actor, no_restart=False)

    def collect(self, ref: Any) -> Done:
        """Take the answer behind ``ref``, which must be ready, and free its actor."""
        slot = next(slot for slot in self._slots if slot.ref == ref)
        work = slot.work
        if work is None:
            raise RuntimeError(f"pool {self.name} has no work behind {ref}")
        self._usage.busy += slot.busy_since(self._mark)
        was_up, slot.is_up = slot.is_up, True
        slot.work = slot.ref = None
        was_overdue, slot.is_overdue = slot.is_overdue, False
        actor = slot.actor._actor_id.hex()
        try:
            outcome: Outcome = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Done(work, error=cause)
        except RayActorError as error:
            # One that cannot even be made will never work: Ray does not restart it, and neither may the caller.
            slot.is_up = False
            if was_overdue:
                late = TimeoutError(
                    f"ended after more than {self.limit_s:g} s, the limit of pool {self.name}"
                )
                return Done(work, error=late, lost=True, actor=actor)
            return Done(work, error=error, lost=not error.actor_init_failed, actor=actor)
        except (NodeDiedError, OutOfMemoryError, WorkerCrashedError) as error:
            slot.is_up = False
            return Done(work, error=error, lost=True, actor=actor)
        except RayError as error:
            # The answer did not make it here: an error that cannot be unpickled, for example.
            return Done(work, error=error)
        self._usage.cpu += outcome.cpu_seconds
        if not work.upkeep:
            self._usage.busy += 0.0 if was_up else outcome.seconds
            self._usage.tasks += 1
        return Done(work, value=outcome.value)

    def usage(self) -> Usage:
        """Time used since the last call of this method, work under way included, the start of a process not."""
        now = time.monotonic()
        self._usage.busy += sum(slot.busy_since(self._mark) for slot in self._slots)
        self._usage.capacity = self.size * (now - self._mark)
        report, self._usage, self._mark = self._usage, Usage(), now
        return report

    def stop(self) -> None:
        """Kill the actors; work under way is lost (the ledger knows it)."""
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots = []

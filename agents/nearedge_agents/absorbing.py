"""Absorbers of one label over the nodes of the Ray cluster: helpers of a labeler.

A helper is an actor that reserves what one of the labeler's own workers has, for as long as absorbers wait. It is asked
for only where that much is free, and the labeler calculates on meanwhile, so nothing ever waits for a helper. It ends
with its labeler, and the programs that it runs end with it (`nearedge_services/oracles/keeper.py`), on whatever node.
"""

import logging
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from nearedge_agents.pool import DEATHS, GET_S
from nearedge_services.oracles.elsewhere import Compute, Ended, Helpers, Row, Wish
from nearedge_services.oracles.errors import OracleCrash, classified
from nearedge_services.oracles.external import allowance, allowed, sweep_all
from nearedge_services.oracles.per_absorber import timed

logger = logging.getLogger(__name__)

ASK_S = 5.0
"""How often it is looked whether there is room for more, from this long after the beginning of a label on."""
PATIENCE_S = 60.0
"""A helper that is not up by then is given up: somebody else had the room."""
_NOT_SHARED = ("node:", "GPU", "object_store_memory", "accelerator_type:", "bundle_group")


class Helper:
    """Calculates one absorber at a time."""

    def __init__(self) -> None:
        sweep_all()

    def where(self) -> str:
        """The node's id; answers when the process is up."""
        return str(ray.get_runtime_context().get_node_id())

    def calculate(
        self, compute: Compute, absorber: int, seconds: float | None, memory_gib: float | None
    ) -> Row:
        """The absorber's row with the time it took. Raises OracleError."""
        with classified(), allowance(seconds=seconds, memory_gib=memory_gib):
            return timed(lambda: compute(absorber))


@dataclass
class _Slot:
    """A helper; ``work`` is what it calculates."""

    actor: ActorHandle
    up: Any
    asked: float = field(default_factory=time.monotonic)
    node: str | None = None
    work: int | None = None
    ref: Any = None


def cluster_of_this_actor() -> "RayCluster | None":
    """The Ray that the caller is an actor of; None outside."""
    is_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
    return RayCluster() if is_actor else None


class RayCluster:
    """The Ray of this actor. ``nodes`` counts absorbers by the node of the helper that calculated them."""

    def __init__(self) -> None:
        self.nodes: Counter[str] = Counter()
        assigned = ray.get_runtime_context().get_assigned_resources()
        self._assigned = {
            name: amount for name, amount in assigned.items() if not name.startswith(_NOT_SHARED)
        }

    def helpers(self, wish: Wish) -> Helpers:
        """See `nearedge_services.oracles.elsewhere.Cluster`."""
        return _RayHelpers(wish, self._share(wish), self.nodes)

    def _share(self, wish: Wish) -> dict[str, float]:
        """What a helper reserves: the share of one of the labeler's workers, and a CPU at least."""
        share = {name: amount / wish.workers for name, amount in self._assigned.items()}
        share["CPU"] = max(share.get("CPU", 0.0), 1.0)
        if wish.memory_gib is not None:
            share["memory"] = max(share.get("memory", 0.0), wish.memory_gib * 2**30)
        return {name: amount if amount < 1 else math.ceil(amount) for name, amount in share.items()}


class _RayHelpers:
    """See `nearedge_services.oracles.elsewhere.Helpers`."""

    def __init__(self, wish: Wish, share: dict[str, float], nodes: Counter[str]) -> None:
        self._wish, self._share, self._nodes = wish, share, nodes
        self._slots: list[_Slot] = []
        self._compute: Any = None
        self._look_at = time.monotonic() + ASK_S  # a label of a few seconds is over before a helper is up

    def offer(self, waiting: int) -> int:
        self._greet()
        free = [slot for slot in self._slots if slot.node is not None and slot.work is None]
        if waiting == 0:
            for slot in [*free, *(slot for slot in self._slots if slot.node is None)]:
                self._end(slot)  # others may have the room
            return 0
        coming = sum(slot.work is None for slot in self._slots)
        self._ask(waiting - coming)
        return len(free)

    def begin(self, absorber: int) -> None:
        slot = next(slot for slot in self._slots if slot.node is not None and slot.work is None)
        if self._compute is None:
            self._compute = ray.put(self._wish.compute)
        slot.work = absorber
        slot.ref = slot.actor.calculate.remote(self._compute, absorber, *allowed())

    def ended(self, wait_s: float) -> list[Ended]:
        working = {slot.ref: slot for slot in self._slots if slot.ref is not None}
        if not working:
            time.sleep(wait_s)
            return []
        answered, _ = ray.wait(list(working), num_returns=1, timeout=wait_s)
        return [self._answer(working[ref]) for ref in answered]

    def close(self) -> None:
        for slot in list(self._slots):
            self._end(slot)

    def _answer(self, slot: _Slot) -> Ended:
        absorber, ref, node = slot.work, slot.ref, slot.node
        assert absorber is not None  # noqa: S101 - it is what the reference is for
        assert node is not None  # noqa: S101 - only helpers that are up get work
        slot.work = slot.ref = None
        try:
            row: Row = ray.get(ref, timeout=GET_S)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else OracleCrash(str(error))
            return Ended(absorber, error=cause)
        except RayError as error:
            logger.warning("helper lost", extra={"data": {"absorber": absorber, "error": str(error)[:200]}})
            self._end(slot)
            return Ended(absorber)
        self._nodes[node] += 1
        return Ended(absorber, row=row)

    def _greet(self) -> None:
        """Take up the helpers that have come up, and give up those that do not."""
        starting = {slot.up: slot for slot in self._slots if slot.node is None}
        answered = ray.wait(list(starting), num_returns=len(starting), timeout=0)[0] if starting else []
        for up in answered:
            slot = starting.pop(up)
            try:
                slot.node = ray.get(up, timeout=GET_S)
            except (*DEATHS, RayError):
                self._end(slot)
        for slot in starting.values():
            if time.monotonic() - slot.asked > PATIENCE_S:
                self._end(slot)

    def _ask(self, more: int) -> None:
        """So many helpers more, as far as what they need is free now."""
        if self._wish.most is not None:
            more = min(more, self._wish.most - len(self._slots))
        if more <= 0 or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + ASK_S
        free = ray.available_resources()
        room = min(int(free.get(name, 0.0) / amount + 1e-6) for name, amount in self._share.items() if amount)
        starting = sum(slot.node is None for slot in self._slots)  # theirs may still count as free
        named = {name: amount for name, amount in self._share.items() if name not in ("CPU", "memory")}
        remote = ray.remote(Helper).options(
            num_cpus=self._share["CPU"],
            memory=self._share.get("memory"),
            resources=named,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        for _ in range(min(more, room - starting)):
            actor = remote.remote()
            self._slots.append(_Slot(actor, actor.where.remote()))

    def _end(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        ray.kill(slot.actor)

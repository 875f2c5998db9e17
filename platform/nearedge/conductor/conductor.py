"""Puts pools, stages and the stopping rule together and runs the loop."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray.exceptions import OutOfMemoryError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from nearedge.conductor.actors import pool_of
from nearedge.conductor.balance import Balance
from nearedge.conductor.confirming import Confirming
from nearedge.conductor.context import CampaignFailedError, Context
from nearedge.conductor.labelling import Labelling
from nearedge.conductor.loop import Loop, Wait, wait_for_ray
from nearedge.conductor.metrics import Metrics
from nearedge.conductor.proposing import Proposing
from nearedge.conductor.scoring import Scoring
from nearedge.conductor.seeding import Seeding
from nearedge.conductor.stage import Stage
from nearedge.conductor.tidying import tidy_registry
from nearedge.conductor.tracking import Tracking
from nearedge.conductor.training import Training
from nearedge.config import MODEL_KINDS
from nearedge.driving import DriverReplacedError
from nearedge.interruption import TRAINING_S
from nearedge.raynodes import amounts_of_nodes
from nearedge.room import Resources
from nearedge.site import ray_address
from nearedge.stopping import Standing, reason_to_stop
from nearedge_agents.pool import Done, Pool
from nearedge_agents.tracking import PATIENCE_S
from nearedge_db.attempts import LOST
from nearedge_db.database import passes
from nearedge_db.errors import one_line
from nearedge_db.outages import PATIENCE_S as AWAY_S
from nearedge_db.states import CampaignState, GenerationRole, TaskKind, TaskState
from nearedge_db.store import (
    DRIVER,
    add_pool_usage,
    close_generations,
    get_campaign,
    mark_models_ready,
    pool_totals,
)
from nearedge_services.oracles.errors import FailureKind

logger = logging.getLogger(__name__)

AGAIN_S = 0.2
"""How long to wait where the database has undone a round, before it is done anew."""
LOSSES = 3
"""How many rounds in a row may be lost, however long they take; more for as long as the database may be away."""

ACCOUNT_EVERY_S = 3.0
"""How often pool usage is written and a stop request is looked for."""

GRACE_S = 60.0
"""How long a campaign whose time is up waits for labels under way; the rest goes back to the ledger.

One that was interrupted or asked to stop waits as long as they take, and up to `TRAINING_S` for trainings."""

TRACKING_S = PATIENCE_S + 5.0
"""How long the end waits for a trainer that is telling MLflow something, which gives up by itself before."""


@dataclass
class Conductor:
    """One session of a campaign."""

    context: Context
    starting: list
    tracking_uri: str
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    interrupted: bool = False
    """Set by the signal handler: stop as if asked to."""
    given_up: int = 0
    """Labels under way that the end did not wait for."""
    tidy_registry: Callable[[Context, str], None] = tidy_registry
    """Sends MLflow what it does not have; given the tracking URI."""
    nodes: Callable[[], Sequence[Resources]] = amounts_of_nodes
    """Total amounts of every node of Ray that lives."""
    pools: dict[str, Pool] = field(default_factory=dict)
    """Who does the work; by default the actors that the settings ask for."""
    wait: Wait = wait_for_ray
    """How the loop waits for their answers."""
    _models_ready: bool = False
    """Whether it is on record since when candidates can be made and scored."""
    _in_a_hurry: bool = False
    """Leave without that: the next session does it."""

    def __post_init__(self) -> None:
        self._make_stages()
        self.pools = self.pools or {
            name: pool_of(name, self.context, self.tracking_uri) for name in self.context.config.pools
        }
        self.metrics = Metrics(self.context.config.name)
        self.seconds_before = self._earlier_seconds()
        self.started = time.monotonic()
        self._accounted = self._driver_mark = self._all_well = time.monotonic()
        self._driver_cpu = time.process_time()
        self._stop_requested = False
        self._losses = 0

    def _make_stages(self) -> None:
        """New ones, which know nothing yet."""
        context = self.context
        self.seeding = Seeding(context, self.starting)
        self.training = Training(context, self.seeding)
        self.tracking = Tracking(context, self.training)
        self.proposing = Proposing(context, self._baseline_wanted, self._guided_wanted)
        # one batch for each generator, where there are more than the buffer is made for
        self.proposing.max_raw_batches = max(
            self.proposing.max_raw_batches, context.config.pools["generator"].most
        )
        self.scoring = Scoring(context, self.proposing, self.training)
        self.labelling = Labelling(context, self.scoring)
        self.confirming = Confirming(context, self.seeding, self.labelling)
        self._models_ready = False

    @property
    def _stages(self) -> list[Stage]:
        """In order of urgency."""
        return [
            self.seeding,
            self.labelling,
            self.confirming,
            self.tracking,
            self.training,
            self.scoring,
            self.proposing,
        ]

    def run(self, on_tick: Callable[[], None] = lambda: None) -> tuple[str, bool]:
        """Stream until done or stopped; returns the reason, and whether the campaign is finished."""
        balance = self._balance(self._stages)
        balance.start()
        lost: DBAPIError | None = None
        try:
            while True:
                try:
                    if lost is not None:
                        self._begin_anew(balance, lost)
                    return self._stream(balance, on_tick)
                except DBAPIError as error:
                    lost = self._survived(error)
        except CampaignFailedError:
            self._close()
            raise
        except KeyboardInterrupt:
            self._in_a_hurry = True
            raise
        finally:
            self._leave()

    def _stream(self, balance: Balance, on_tick: Callable[[], None]) -> tuple[str, bool]:
        """What `run` does, as long as the database lets it."""
        self.seeding.start()
        for stage in (self.training, self.proposing, self.scoring, self.labelling):
            stage.start()

        def tick() -> None:
            self._all_well, self._losses = time.monotonic(), 0
            self._tick(on_tick)
            balance.tick()

        loop = Loop(
            self.pools,
            self._stages,
            self._reason,
            tick,
            self._give_up_lease,
            self.metrics.ended,
            self.wait,
            self.context.database.joined,
        )
        loop.take_over({name: pool.under_way for name, pool in self.pools.items()})
        reason = loop.run()
        finished, ended = not (self.interrupted or self._stop_requested), time.monotonic()
        loop.drain(GRACE_S if finished else math.inf, lambda pool, _: pool == "labeler")
        if not finished:
            left = ended + TRAINING_S - time.monotonic()
            loop.drain(left, lambda pool, work: pool == "trainer" and work.method == "work")
        loop.drain(TRACKING_S, lambda _, work: work.method == "track")
        if finished:
            self._close()
        return reason, finished

    def _survived(self, error: DBAPIError) -> DBAPIError:
        """The error, where the same round may succeed once it is done anew; raises it where not."""
        self._losses += 1
        is_over = self._losses > LOSSES and time.monotonic() - self._all_well > AWAY_S
        if is_over or not passes(error):
            raise error
        logger.warning("round lost", extra={"data": {"error": one_line(error)}})
        time.sleep(AGAIN_S)
        return error

    def _begin_anew(self, balance: Balance, error: DBAPIError) -> None:
        """Know what the database knows, and nothing else; actors keep their work."""
        self.context.read_anew()
        self._make_stages()
        balance.stages = self._stages
        self.context.event("round lost", error=one_line(error))

    @property
    def labels_in_flight(self) -> int:
        """Labels and starting structures that the labelers have."""
        return len(self.pools["labeler"].under_way)

    def standing(self) -> Standing:
        """Where the campaign is, for the stopping rule and the display."""
        return Standing(
            guided_labels=self.labelling.guided_labels,
            baseline_labels=self.labelling.baseline_labels,
            best_distance=self.labelling.best_guided,
            since_best=self.labelling.since_best,
            minutes=self.seconds / 60,
        )

    @property
    def seconds(self) -> float:
        """Wall time spent on the campaign, earlier sessions included."""
        return self.seconds_before + time.monotonic() - self.started

    def _reason(self) -> str | None:
        if self.interrupted:
            return "interrupted"
        if self._stop_requested:
            return "stop requested"
        self.labelling.drop_surplus()
        reason = reason_to_stop(self.standing(), self.context.config.stop)
        # Labels under way are waited for; meanwhile none is added, or there would always be one under way.
        self.labelling.closing = reason is not None
        out_of_time = self._out_of_time()
        owed = self.labelling.under_way or self.confirming.owes
        return None if reason and owed and not out_of_time else reason

    def _out_of_time(self) -> bool:
        limit = self.context.config.stop.wall_minutes
        return limit is not None and self.seconds / 60 >= limit

    def _close(self) -> None:
        """A campaign that has ended has no use for models being trained, batches being made, settings being tried.

        Going on submits trainings anew and asks for new settings; candidates that wait go on waiting.
        """
        context = self.context
        for task in context.ledger.open_tasks(context.campaign_id, TaskKind.TRAIN):
            context.ledger.cancel(task.id)
        with context.database.begin(synced=False) as session:
            close_generations(session, context.campaign_id)
        context.steering.give_up_orphans(set())

    def _leave(self) -> None:
        """Stop the actors and give their tasks back, unless another driver has the campaign now."""
        self.given_up = self.labels_in_flight
        given = [work.tag for pool in self.pools.values() for work in pool.under_way if work.method == "work"]
        if self.context.is_replaced():
            given, self._in_a_hurry = [], True
        else:
            self._account()
        for pool in self.pools.values():
            pool.stop()
        self._release(given)
        if not self._in_a_hurry and self._is_untidy():
            self.tidy_registry(self.context, self.tracking_uri)

    def _is_untidy(self) -> bool:
        """Whether MLflow lacks something that it might take now."""
        tracking = self.tracking
        unsent = self.context.ledger.open_tasks(self.context.campaign_id, TaskKind.TRACK)
        return bool(unsent) or tracking.under_way or tracking.trouble is not None

    def _give_up_lease(self, done: Done) -> None:
        """An actor has died: nobody has to wait for the lease of its task, wherever it was."""
        if done.work.method == "work" and done.actor:
            what, outcome = "WorkerDied", LOST
            if isinstance(done.error, TimeoutError):
                what, outcome = "WorkerTimeout", FailureKind.TIMEOUT.value
            elif isinstance(done.error, OutOfMemoryError):  # Ray ends the largest where a node has too little
                what, outcome = "WorkerOutOfMemory", FailureKind.OUT_OF_MEMORY.value
            reason = f"{what}: {one_line(done.error or '')}"
            self.context.ledger.give_up_for(done.work.tag, done.actor, reason, outcome)
            self.context.event("worker lost", task_id=done.work.tag, error=reason)

    def _release(self, task_ids: list[int]) -> None:
        """Give the tasks of the killed actors back: nobody has to wait for their leases, no attempt is spent."""
        for task_id in task_ids:
            task = self.context.ledger.get(task_id)
            if task.state is TaskState.LEASED and task.owner is not None:
                self.context.ledger.release(task.owner)

    def _tick(self, on_tick: Callable[[], None]) -> None:
        if self.context.is_replaced():
            raise DriverReplacedError(
                f"another driver has taken campaign {self.context.config.name!r} over: this one leaves"
            )
        if not self._models_ready and self.context.champions.keys() >= set(MODEL_KINDS):
            self._models_ready = True
            self._account()
            with self.context.database.begin(synced=False) as session:
                mark_models_ready(session, self.context.campaign_id)
        if time.monotonic() - self._accounted >= ACCOUNT_EVERY_S:
            self._account()
            with self.context.database.session() as session:
                state = get_campaign(session, self.context.campaign_id).state
            self._stop_requested = state is CampaignState.STOPPING
            # somebody may have promoted or rolled back by hand
            self.training.new_champions.extend(self.context.refresh_champions())
        on_tick()

    def _account(self) -> None:
        self._accounted = time.monotonic()
        with self.context.database.begin(synced=False) as session:
            for name, pool in self.pools.items():
                usage = pool.usage()
                self.metrics.used(name, usage)
                add_pool_usage(
                    session,
                    self.context.campaign_id,
                    self.session,
                    name,
                    busy_seconds=usage.busy,
                    capacity_seconds=usage.capacity,
                    cpu_seconds=usage.cpu,
                    tasks=usage.tasks,
                )
            self._account_driver(session)
        labels = {"guided": self.labelling.guided_labels, "baseline": self.labelling.baseline_labels}
        self.metrics.progress(labels, self.labelling.best_guided)

    def _account_driver(self, session: Session) -> None:
        """The driver's own time and CPU; its capacity is what the session has lasted."""
        now, cpu = time.monotonic(), time.process_time()
        add_pool_usage(
            session,
            self.context.campaign_id,
            self.session,
            DRIVER,
            busy_seconds=cpu - self._driver_cpu,
            capacity_seconds=now - self._driver_mark,
            cpu_seconds=cpu - self._driver_cpu,
        )
        self._driver_mark, self._driver_cpu = now, cpu

    def _earlier_seconds(self) -> float:
        with self.context.database.session() as session:
            totals = pool_totals(session, self.context.campaign_id)
        return totals[DRIVER].capacity_seconds if DRIVER in totals else 0.0

    def _baseline_wanted(self) -> int:
        """Unguided samples still to be made: wanted labels less what is labelled, waiting or being scored."""
        waiting = sum(w.role is GenerationRole.BASELINE for w in self.scoring.waiting.values())
        have = self.labelling.committed(GenerationRole.BASELINE) + waiting
        return (
            self.context.config.stop.baseline - have - self.scoring.count_under_way(GenerationRole.BASELINE)
        )

    def _guided_wanted(self) -> bool:
        """Room for candidates: back-pressure is a bounded surplus of scored ones over the labels they serve."""
        stop, acquisition = self.context.config.stop, self.context.config.acquisition
        if self.labelling.closing or self.labelling.committed(GenerationRole.GUIDED) >= stop.labels:
            return False
        # Where nothing waits, all were rejected or dropped: without new ones the campaign would stand still.
        waits = any(w.role is GenerationRole.GUIDED for w in self.scoring.waiting.values())
        return not waits or self.labelling.surplus() < max(acquisition.max_waiting, acquisition.selectivity)

    def _balance(self, stages: Sequence[Stage]) -> Balance:
        config = self.context.config
        is_shared = ray_address(config.ray.address) is not None
        return Balance(
            self.pools, config.pools, stages, self.nodes, self.context.event, self.metrics.look, is_shared
        )

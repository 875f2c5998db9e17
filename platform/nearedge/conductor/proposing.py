"""The generating stage: unguided samples as the baseline, then guided candidates with settings from Optuna."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ase import Atoms
from sqlalchemy.orm import Session

from nearedge.chance import seed_for, stratified
from nearedge.conductor.context import Context
from nearedge.steering import SEARCHED, Settings
from nearedge_agents.generator import Request
from nearedge_agents.pool import Done, Work
from nearedge_db.schema import Generation
from nearedge_db.states import GenerationRole, GenerationState
from nearedge_db.store import (
    create_generation,
    list_generations,
    set_generation_models,
    set_generation_state,
)

MAX_LOSSES = 3
"""How often an actor may die under one batch before the batch is taken to be the cause."""

MAX_FAILURES = 20
"""Batches in a row that may fail before the generator is taken to be broken."""


@dataclass(frozen=True)
class Batch:
    """Raw structures of one generation, on their way to the scorer."""

    generation: Generation
    structures: list[Atoms]

    @property
    def guided(self) -> bool:
        """Whether the structures were guided."""
        return self.generation.role is GenerationRole.GUIDED


@dataclass
class Proposing:
    """Offers generation requests while there is room for candidates."""

    context: Context
    baseline_wanted: Callable[[], int]
    """How many more unguided samples are needed."""
    guided_wanted: Callable[[], bool]
    """Whether more guided candidates are of use now."""
    max_raw_batches: int = 2
    name: str = "generation"
    pool: str = "generator"
    raw: deque[Batch] = field(default_factory=deque)
    """What the scorer has not taken yet: the bounded buffer between generator and scorer."""
    _again: deque[Generation] = field(default_factory=deque)
    _under_way: dict[int, Generation] = field(default_factory=dict)
    _made: Counter[GenerationRole] = field(default_factory=Counter)
    """Structures of each role asked for so far: numbers the next one."""
    _failures: int = 0
    _losses: Counter[int] = field(default_factory=Counter)
    _first: Settings | None = None
    """Settings of the first guided batch, chosen before any label of the baseline: the timing has no part in them."""
    _steered: bool = False
    """Whether they have been asked for, now or in an earlier session."""

    def start(self) -> None:
        """Generations that were not scored when the campaign stopped are made again, with the same seeds."""
        with self.context.database.session() as session:
            generations = list_generations(session, self.context.campaign_id)
        self._again.extend(g for g in generations if g.state is GenerationState.OPEN)
        self._steered = any(g.role is GenerationRole.GUIDED for g in generations)
        for generation in generations:
            self._made[generation.role] += len(generation.settings_json["seeds"])
        # One whose batch is scored or closed was cut short before Optuna was told: it stays open for nobody.
        self.context.steering.give_up_orphans(
            {g.trial_number for g in self._again if g.trial_number is not None}
        )

    def structures_under_way(self, role: GenerationRole) -> int:
        """Structures of this role that are asked for but not scored."""
        waiting = [*self._under_way.values(), *self._again, *(batch.generation for batch in self.raw)]
        return sum(len(g.settings_json["seeds"]) for g in waiting if g.role is role)

    @property
    def backlog(self) -> int:
        """Batches that could be sampled now: as many as the buffer has room for."""
        champions, room = self.context.champions, self.max_raw_batches - len(self.raw) - len(self._under_way)
        if "prior" not in champions or room <= 0:
            return 0
        missing = self.baseline_wanted() - self.structures_under_way(GenerationRole.BASELINE)
        batches = len(self._again) + max(-(-missing // self.context.config.generation.batch), 0)
        return room if "surrogate" in champions and self.guided_wanted() else min(room, batches)

    def offer(self) -> Work | None:
        """A request: what must be made again first, then the baseline, then guided candidates."""
        champions = self.context.champions
        if "prior" not in champions or len(self.raw) + len(self._under_way) >= self.max_raw_batches:
            return None
        if not self._steered:
            with self.context.database.begin(synced=False) as session:
                self._first, self._steered = self.context.steering.ask(session), True
        if self._again:
            return self._made_again(self._again.popleft())
        missing = self.baseline_wanted() - self.structures_under_way(GenerationRole.BASELINE)
        if missing > 0:
            return self._work(self._baseline(min(missing, self.context.config.generation.batch)))
        if "surrogate" in champions and self.guided_wanted():
            return self._work(self._guided())
        return None

    def takes_over(self, work: Work) -> bool:
        """Nothing: it is done again."""
        return False

    def accept(self, done: Done) -> None:
        """Put the raw structures into the buffer; a batch that failed is closed, and its trial with it."""
        generation = self._under_way.pop(done.work.tag)
        if done.lost:
            if not self.is_given_up(generation):
                self._again.append(generation)
            return
        if done.error is None:
            self._failures = 0
            self.raw.append(Batch(generation, done.value))
            return
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise done.error
        self._close(generation, str(done.error))

    def is_given_up(self, generation: Generation) -> bool:
        """Count one more death of the actor that had this generation; too many of them, and it is closed."""
        self._losses[generation.id] += 1
        if self._losses[generation.id] < MAX_LOSSES:
            return False
        self._close(generation, f"the actor that had it died {MAX_LOSSES} times")
        return True

    def _close(self, generation: Generation, error: str) -> None:
        self.context.event("generation failed", generation_id=generation.id, error=error)
        with self.context.database.begin(synced=False) as session:
            if generation.trial_number is not None:
                self.context.steering.give_up(generation.trial_number, session)
            set_generation_state(session, generation.id, GenerationState.CLOSED)

    def _baseline(self, count: int) -> Generation:
        config = self.context.config
        made = self._made[GenerationRole.BASELINE]
        low, high = config.material.density_g_cm3
        places = stratified(max(config.stop.baseline, 1), config.seed, "baseline density")
        densities = [low + (high - low) * places[(made + k) % len(places)] for k in range(count)]
        with self.context.database.begin(synced=False) as session:
            return self._create(session, GenerationRole.BASELINE, densities, dict.fromkeys(SEARCHED, 0.0))

    def _guided(self) -> Generation:
        """A batch with Optuna's next settings; its trial is entered in the same transaction."""
        with self.context.database.begin(synced=False) as session:
            settings, self._first = self._first or self.context.steering.ask(session), None
            densities = [settings.density_g_cm3] * self.context.config.generation.batch
            searched = {name: getattr(settings, name) for name in SEARCHED}
            return self._create(session, GenerationRole.GUIDED, densities, searched, settings.trial_number)

    def _create(
        self,
        session: Session,
        role: GenerationRole,
        densities: list[float],
        searched: dict[str, float],
        trial: int | None = None,
    ) -> Generation:
        context, made = self.context, self._made[role]
        settings = {
            "composition": context.config.generated_composition,
            "densities": [round(density, 4) for density in densities],
            "seeds": [seed_for(context.config.seed, role, made + k) for k in range(len(densities))],
            "sampler": dict(context.config.generation.sampler),
            **searched,
        }
        prior, surrogate = self._models(searched["guidance_scale"])
        generation = create_generation(
            session,
            context.campaign_id,
            role,
            settings,
            seed=context.config.seed,
            trial_number=trial,
            prior_model_id=prior,
            surrogate_model_id=surrogate,
        )
        self._made[role] += len(densities)
        return generation

    def _models(self, guidance_scale: float) -> tuple[int, int | None]:
        """Prior and surrogate that have a part in a batch made now: without guidance there is no surrogate."""
        champions = self.context.champions
        guide = champions.get("surrogate") if guidance_scale > 0 else None
        return champions["prior"].model_id, None if guide is None else guide.model_id

    def _made_again(self, generation: Generation) -> Work:
        """The work of a batch whose actor died, which is made with the champions of now."""
        with self.context.database.begin(synced=False) as session:
            set_generation_models(
                session, generation.id, *self._models(generation.settings_json["guidance_scale"])
            )
        return self._work(generation)

    def _work(self, generation: Generation) -> Work:
        settings = generation.settings_json
        request = Request(
            generation_id=generation.id,
            composition=settings["composition"],
            densities=tuple(settings["densities"]),
            seeds=tuple(settings["seeds"]),
            guidance_scale=settings["guidance_scale"],
            sampler=settings["sampler"],
        )
        self._under_way[generation.id] = generation
        surrogate = self.context.champions.get("surrogate") if request.guidance_scale > 0 else None
        args = (request, self.context.target, self.context.champions["prior"], surrogate)
        return Work("generate", args, tag=generation.id)

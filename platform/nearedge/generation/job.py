"""One generation: all that decides it, and structure after structure as they are finished."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nearedge.generation.models import ModelFolders
from nearedge.generation.outcomes import Failure, Finished
from nearedge.generation.quality import Judges, Record, geometry, refinement_record
from nearedge_db.hashing import content_hash

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge.generation.aims import Aim
    from nearedge_services.diffusion.settings import SamplerSettings
    from nearedge_services.refinement import RefinementSettings

ATOMS_AT_ONCE = 256
"""Structures are finished whenever about so many atoms are."""


@dataclass(frozen=True)
class Job:
    """What one call generates: a start and a seed for each structure, and all that they share."""

    models: ModelFolders
    starts: "Sequence[Atoms]"
    seeds: Sequence[int]
    sampler: "SamplerSettings"
    aim: "Aim | None"
    refinement: "RefinementSettings | None"

    @property
    def guided(self) -> bool:
        """Whether structures are pulled towards a target."""
        return self.aim is not None and self.aim.guides

    @cached_property
    def recipes(self) -> list[str]:
        """For each structure a hash of everything that decides it: settings, seed, start and weights."""
        kinds = ["prior", *(["surrogate"] if self.aim else []), *(["potential"] if self.refinement else [])]
        common = {
            "sampler": self.sampler.model_dump(mode="json"),
            "aim": self.aim.content() if self.aim else None,
            "refinement": self.refinement.model_dump(mode="json") if self.refinement else None,
            "weights": {kind: self.models.identities[kind] for kind in kinds},
        }
        return [
            "sha256:" + content_hash([common, seed, _start_content(start)])[:16]
            for seed, start in zip(self.seeds, self.starts, strict=True)
        ]

    def run(self, skip: Collection[int] = ()) -> "Iterator[Finished | Failure]":
        """What becomes of each structure but those in ``skip``, as it is known, by rising index."""
        from nearedge_services.structures.portions import portions

        wanted = [index for index in range(len(self.starts)) if index not in skip]
        for portion in portions([self.starts[index] for index in wanted], ATOMS_AT_ONCE):
            finished, failures = _Portion(self, [wanted[k] for k in portion]).run()
            outcomes: list[Finished | Failure] = [*finished, *failures]
            yield from sorted(outcomes, key=lambda outcome: outcome.index)

    @cached_property
    def judges(self) -> Judges:
        """The models that predict energy and distance of what comes out."""
        return Judges(
            potential=self.models.loaded_potential if self.models.potential else None,
            surrogate=self.models.loaded_surrogate if self.aim else None,
            target=self.aim.target if self.aim else None,
        )

    def origin(self, index: int) -> Record:
        """How a structure was made, and with which weights."""
        origin: Record = {
            "index": index,
            "seed": self.seeds[index],
            "guidance_kind": str(self.aim.kind) if self.aim and self.guided else "none",
            "guidance_scale": self.aim.scale if self.aim else 0.0,
            "sampler_steps": self.sampler.steps,
            "refined": self.refinement is not None,
            "recipe": self.recipes[index],
        }
        used = self.models.identities if self.aim else {**self.models.identities, "surrogate": None}
        return origin | {f"{kind}_weights": weights for kind, weights in used.items() if weights}


class _Portion:
    """A few structures on their way through sampling, refinement and judgement."""

    def __init__(self, job: Job, indices: list[int]) -> None:
        self.job = job
        self.indices = indices
        self.failures: list[Failure] = []

    def run(self) -> tuple[list[Finished], list[Failure]]:
        """All stages."""
        structures = self.sample()
        if self.job.refinement is not None and structures:
            structures = self.refine(structures, self.job.refinement)
        return self.judge(structures), self.failures

    def fail(self, index: int, reason: str, atoms: "Atoms | None" = None) -> None:
        """Put down a failure."""
        self.failures.append(Failure(index, self.job.seeds[index], reason, atoms))

    def sample(self) -> list[Finished]:
        """Structures from the prior."""
        from nearedge.generation.aims import make_guidance
        from nearedge_services.diffusion.sampler import SamplingError, sample

        job = self.job
        guidance = make_guidance(job.aim, job.models) if job.aim and job.guided else None
        starts = [job.starts[index] for index in self.indices]
        seeds = [job.seeds[index] for index in self.indices]
        try:
            completed = dict(enumerate(sample(job.models.loaded_prior, starts, job.sampler, seeds, guidance)))
        except SamplingError as error:
            completed = error.completed
            for k, reason in error.failures.items():
                self.fail(self.indices[k], reason)
        return [Finished(self.indices[k], atoms) for k, atoms in sorted(completed.items())]

    def refine(self, raw: list[Finished], settings: "RefinementSettings") -> list[Finished]:
        """The structures refined; on energy plus mismatch where they were guided."""
        from nearedge_services.refinement import refine, spectral_bias

        job = self.job
        bias = None
        if job.aim and job.guided:
            bias = spectral_bias(job.models.loaded_surrogate, job.aim.target, settings)
        structures = [one.atoms for one in raw]
        seeds = [_refinement_seed(job.seeds[one.index]) for one in raw]
        ends = refine(structures, job.models.loaded_potential, settings, bias=bias, seeds=seeds)
        finished = []
        for one, end, distance in zip(raw, ends, job.judges.distances(structures), strict=True):
            if end.failed:
                self.fail(one.index, f"refinement: {end.status}: {end.reason}", one.atoms)
            else:
                finished.append(Finished(one.index, end.atoms, refinement_record(end, distance)))
        return finished

    def judge(self, structures: list[Finished]) -> list[Finished]:
        """The structures with their records; each alone where the energy of one is not finite."""
        from nearedge_services.potential.errors import NonFiniteForces

        try:
            predictions = self.job.judges.predict([one.atoms for one in structures])
        except NonFiniteForces as error:
            if len(structures) > 1:
                return [judged for one in structures for judged in self.judge([one])]
            self.fail(structures[0].index, f"no finite energy: {error}", structures[0].atoms)
            return []
        for one, prediction in zip(structures, predictions, strict=True):
            record = self.job.origin(one.index) | geometry(one.atoms) | prediction | one.record
            one.atoms.info = record
        return structures


def structure_seeds(seed: int, count: int) -> list[int]:
    """Independent seeds; the first ones do not depend on how many there are."""
    return [int(np.random.SeedSequence([seed, k]).generate_state(1)[0]) for k in range(count)]


def _refinement_seed(seed: int) -> int:
    """The seed of a structure's dynamics, apart from that of its sampling."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


def _start_content(start: "Atoms") -> dict[str, Any]:
    """What of a start decides a structure, JSON-able, to 1e-6 Å."""
    from nearedge_services.structures.fixed import fixed_atoms

    stays = fixed_atoms(start)
    return {
        "numbers": start.numbers.tolist(),
        "cell": np.round(start.cell.array, 6).tolist(),
        "fixed": np.flatnonzero(stays).tolist(),
        "places": np.round(start.positions[stays], 6).tolist(),
    }

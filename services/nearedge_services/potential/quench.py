"""Networks from a melt-quench with the learned potential: better than the classical ones it started from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field

from nearedge_services.potential.potential import Potential
from nearedge_services.potential.relax import potential_energies, relax_batch
from nearedge_services.structures.composition import Composition
from nearedge_services.structures.langevin import Thermostat, langevin
from nearedge_services.structures.melt_quench import MeltQuenchSettings, melt

Array = npt.NDArray[np.float64]


class QuenchSettings(BaseModel):
    """How long a melt is held and how fast it is quenched. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    melt: MeltQuenchSettings = MeltQuenchSettings()
    """The classical melt that the learned potential takes over."""
    temperature_k: float = Field(default=6500.0, gt=0)
    """Temperature at which the potential takes over, K."""
    hold_steps: int = Field(default=200, ge=0)
    """Steps at that temperature."""
    quench_steps: int = Field(default=1500, ge=1)
    """Steps of the exponential quench."""
    final_temperature_k: float = Field(default=300.0, gt=0)
    """Temperature the quench ends at, K."""
    thermostat: Thermostat = Thermostat()
    relax_steps: int = Field(default=200, ge=0)
    """FIRE steps at the end, at most."""
    fmax_ev_per_a: float = Field(default=0.05, gt=0)
    """Largest force at which the relaxation ends, eV/Å."""
    snapshots: int = Field(default=0, ge=0)
    """Frames kept on the way, evenly spread over hold and quench."""


@dataclass(frozen=True)
class Quenched:
    """A relaxed network (None where the dynamics exploded) and unrelaxed frames on the way to it."""

    final: Atoms | None
    snapshots: list[Atoms]
    failure: str = ""


def quench(
    potential: Potential,
    composition: Composition,
    densities_g_cm3: Sequence[float],
    seeds: Sequence[int],
    settings: QuenchSettings | None = None,
) -> list[Quenched]:
    """One network per density and seed, all moved together (fixed cubic cells); on the first member.

    A network depends on its own density and seed only, up to rounding. Raises MeltQuenchError when a classical
    melt explodes, UserError for elements without a potential.
    """
    settings = settings or QuenchSettings()
    generators = [np.random.default_rng(seed) for seed in seeds]
    structures = [
        melt(composition, density, rng, settings.melt)
        for density, rng in zip(densities_g_cm3, generators, strict=True)
    ]
    for atoms in structures:
        atoms.calc = None
    notes = [
        {"group": f"quench-{seed}", "seed": int(seed), "density_g_cm3": float(density)}
        for seed, density in zip(seeds, densities_g_cm3, strict=True)
    ]
    for atoms, note in zip(structures, notes, strict=True):
        atoms.info.update(note)
    frames: list[list[Atoms]] = [[] for _ in structures]
    wanted = _snapshot_steps(settings)

    def keep(step: int, moving: dict[int, Atoms]) -> None:
        if step in wanted:
            for k, atoms in moving.items():
                frames[k].append(atoms.copy())

    evaluate = potential_energies(potential, members=1)
    exploded = langevin(structures, evaluate, _temperatures(settings), generators, settings.thermostat, keep)
    good = [k for k in range(len(structures)) if k not in exploded]
    ends = relax_batch(
        [structures[k] for k in good], potential, settings.relax_steps, settings.fmax_ev_per_a, members=1
    )
    finals = {k: end.atoms for k, end in zip(good, ends, strict=True)}
    for atoms in finals.values():
        atoms.wrap()
    return [Quenched(finals.get(k), frames[k], exploded.get(k, "")) for k in range(len(structures))]


def _temperatures(settings: QuenchSettings) -> Array:
    """Temperature of every step, K."""
    hold = np.full(settings.hold_steps, settings.temperature_k)
    fall = np.geomspace(settings.temperature_k, settings.final_temperature_k, settings.quench_steps)
    return np.concatenate([hold, fall])


def _snapshot_steps(settings: QuenchSettings) -> set[int]:
    """Steps after which a frame is kept."""
    last = settings.hold_steps + settings.quench_steps - 1
    return set(np.linspace(0, last, settings.snapshots + 2, dtype=int)[1:-1].tolist())

"""Structures to their nearest good minimum, on the potential's energy plus a bias."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_services.potential.errors import NonFiniteForces
from nearedge_services.potential.relax import RelaxationStatus, potential_energies, relax_with
from nearedge_services.refinement.results import Moment, Refined, RefinementStatus
from nearedge_services.refinement.settings import Anneal, RefinementSettings
from nearedge_services.structures.fixed import fixed_atoms
from nearedge_services.structures.langevin import Evaluate, langevin
from nearedge_services.structures.material import packing_fraction
from nearedge_services.structures.portions import portions

if TYPE_CHECKING:
    from nearedge_services.potential.potential import Potential
    from nearedge_services.spectra.target import Target
    from nearedge_services.surrogate.surrogate import Surrogate

Array = npt.NDArray[np.float64]

_ENDS = {
    RelaxationStatus.CONVERGED: RefinementStatus.CONVERGED,
    RelaxationStatus.OUT_OF_STEPS: RefinementStatus.OUT_OF_STEPS,
}


def spectral_bias(surrogate: "Surrogate", target: "Target", settings: RefinementSettings) -> Evaluate | None:
    """The spectral mismatch as an energy with the settings' weight; None when that is 0.

    Raises UserError when target and surrogate are on different grids.
    """
    from nearedge_services.surrogate.bias import SpectralBias

    if settings.spectral_weight_ev == 0:
        return None
    return SpectralBias(surrogate, target, settings.spectral_weight_ev).evaluate


def refine(
    structures: Sequence[Atoms],
    potential: "Potential",
    settings: RefinementSettings | None = None,
    *,
    bias: Evaluate | None = None,
    seeds: Sequence[int],
) -> list[Refined]:
    """Relax, anneal and relax structures in their fixed cells on the potential's energy plus ``bias``.

    ``bias`` gives energies (eV) and forces (eV/Å), as `spectral_bias` does; ``seeds``: one per structure, of
    the dynamics. A structure depends on itself and its seed only, up to rounding; fixed atoms (see
    `fixed_atoms`) keep their places exactly. The input is not changed. One that explodes or becomes NaN comes
    back with that status, in its place. Raises UserError for an element that the potential does not know.
    """
    settings = settings or RefinementSettings()
    evaluate = potential_energies(potential, settings.members)
    return refine_with(structures, evaluate, settings, bias=bias, seeds=seeds)


def refine_with(
    structures: Sequence[Atoms],
    evaluate: Evaluate,
    settings: RefinementSettings,
    *,
    bias: Evaluate | None = None,
    seeds: Sequence[int],
) -> list[Refined]:
    """As `refine`, with anything that gives energies and forces in the potential's place."""
    if len(seeds) != len(structures):
        raise ValueError(f"{len(seeds)} seeds for {len(structures)} structures")
    results: list[Refined] = []
    for chunk in portions(structures, settings.atoms_at_once):
        results += _refine_chunk([(structures[k], seeds[k]) for k in chunk], evaluate, bias, settings)
    return results


def _refine_chunk(
    jobs: list[tuple[Atoms, int]], evaluate: Evaluate, bias: Evaluate | None, settings: RefinementSettings
) -> list[Refined]:
    """Refine structures together; when energies become NaN, each alone, to know whose they are."""
    walk = _Refinement([_Moving(atoms, seed) for atoms, seed in jobs], evaluate, bias, settings)
    try:
        walk.run()
    except NonFiniteForces as error:
        if len(jobs) > 1:
            return [result for job in jobs for result in _refine_chunk([job], evaluate, bias, settings)]
        walk.moving[0].fail(RefinementStatus.NOT_FINITE, str(error))
    return [one.result() for one in walk.moving]


@dataclass
class _Moving:
    """One structure on its way."""

    start: Atoms
    seed: int
    atoms: Atoms = field(init=False)
    status: RefinementStatus = RefinementStatus.OUT_OF_STEPS
    reason: str = ""
    history: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.atoms = self.start.copy()
        self.fixed = fixed_atoms(self.start)

    @property
    def alive(self) -> bool:
        return not self.reason

    def fail(self, status: RefinementStatus, reason: str) -> None:
        self.status, self.reason = status, reason

    def result(self) -> Refined:
        moved = np.linalg.norm(self.atoms.positions - self.start.positions, axis=1)
        wrapped = self.atoms.copy()
        if self.alive:
            wrapped.wrap()
            wrapped.positions[self.fixed] = self.start.positions[self.fixed]
        return Refined(
            atoms=wrapped,
            status=self.status,
            reason=self.reason,
            rms_displacement_a=float(np.sqrt(np.mean(moved**2))),
            max_displacement_a=float(moved.max(initial=0.0)),
            history=tuple(self.history),
        )

    def undo_drift(self) -> None:
        """Shift the whole back by its mean displacement: a translation is no change."""
        if not self.fixed.any():
            self.atoms.positions -= (self.atoms.positions - self.start.positions).mean(axis=0)


class _Refinement:
    """The stages, each for all structures that are still whole."""

    def __init__(
        self, moving: list[_Moving], evaluate: Evaluate, bias: Evaluate | None, settings: RefinementSettings
    ) -> None:
        self.moving = moving
        self.evaluate = evaluate
        self.bias = bias
        self.settings = settings

    def run(self) -> None:
        """All stages; NonFiniteForces when an energy or a force is not finite."""
        chosen = self.settings
        self.note("start")
        if chosen.anneal is not None:
            self.relax(chosen.first_steps, chosen.first_fmax_ev_per_a)
            self.note("relaxed")
            self.anneal(chosen.anneal)
            self.note("annealed")
        self.relax(chosen.final_steps, chosen.final_fmax_ev_per_a)
        for one in self.whole():
            one.undo_drift()
        self.note("final")

    def whole(self) -> list[_Moving]:
        """Those that have not failed."""
        return [one for one in self.moving if one.alive]

    def total(self, structures: list[Atoms]) -> list[tuple[float, Array]]:
        """Energy (eV) and forces ((N, 3), eV/Å), bias included."""
        results = self.evaluate(structures)
        if self.bias is None:
            return results
        extra = self.bias(structures)
        return [(e + de, f + df) for (e, f), (de, df) in zip(results, extra, strict=True)]

    def note(self, stage: str) -> None:
        """Put down where the structures are."""
        whole = self.whole()
        if not whole:
            return
        structures = [one.atoms for one in whole]
        energies = [energy for energy, _ in self.evaluate(structures)]
        biases = [0.0] * len(whole) if self.bias is None else [energy for energy, _ in self.bias(structures)]
        if not (np.isfinite(energies).all() and np.isfinite(biases).all()):
            raise NonFiniteForces(f"the energy is not finite ({stage})")
        for one, energy, bias in zip(whole, energies, biases, strict=True):
            one.history.append(Moment(stage, energy, bias))

    def relax(self, steps: int, fmax_ev_per_a: float) -> None:
        """FIRE on energy plus bias."""
        whole = self.whole()
        limit = self.settings.max_displacement_a
        ends = relax_with(
            [one.atoms for one in whole], self.total, steps, fmax_ev_per_a, max_displacement_a=limit
        )
        for one, end in zip(whole, ends, strict=True):
            one.atoms = end.atoms
            if end.status is RelaxationStatus.EXPLODED:
                one.fail(RefinementStatus.EXPLODED, f"an atom moved more than {limit:g} Å while relaxing")
            else:
                one.status = _ENDS[end.status]

    def anneal(self, anneal: Anneal) -> None:
        """Langevin dynamics on energy plus bias."""
        whole = self.whole()
        generators = [np.random.default_rng(one.seed) for one in whole]
        structures = [one.atoms for one in whole]
        chosen = anneal if self.bias is None else anneal.with_bias()
        temperatures_k = chosen.temperatures_k(np.array([packing_fraction(atoms) for atoms in structures]))
        exploded = langevin(structures, self.total, temperatures_k, generators, chosen.thermostat)
        for k, reason in exploded.items():
            whole[k].fail(RefinementStatus.EXPLODED, f"while annealing: {reason}")

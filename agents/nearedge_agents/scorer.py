"""The actor that relaxes candidates and predicts their spectral distance and energy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_agents.agent import Agent
from nearedge_agents.models import ModelCache, ModelFiles
from nearedge_services.spectra.target import Target


@dataclass(frozen=True)
class Prediction:
    """What the models say of one structure: spectral distance in 1/eV, energies in eV per atom."""

    distance: float
    distance_std: float
    energy_per_atom_ev: float
    energy_std_per_atom_ev: float


@dataclass(frozen=True)
class Scored:
    """A relaxed candidate with everything the gate and the acquisition function look at."""

    atoms: Atoms
    prediction: Prediction
    fingerprint: npt.NDArray[np.float64]
    contact: float
    """Shortest contact over the sum of covalent radii."""
    shortest_contact_a: float
    overcoordinated_fraction: float
    rms_displacement_a: float
    coordination: dict[int, float]
    """Number of neighbours -> share of the atoms, relaxed."""
    raw_coordination: dict[int, float]
    """The same as generated."""


@dataclass(frozen=True)
class Broken:
    """A candidate that could not be relaxed, and why."""

    atoms: Atoms
    reason: str


@dataclass(frozen=True)
class Relaxing:
    """How candidates are relaxed; ``spectral_weight_ev`` > 0 adds the spectral mismatch to the energy."""

    steps: int
    spectral_weight_ev: float


@dataclass(frozen=True)
class Judging:
    """What candidates are judged by."""

    target: Target
    surrogate: ModelFiles
    potential: ModelFiles


class Scorer(Agent):
    """Relaxes on the potential, predicts with potential and surrogate."""

    def __init__(self) -> None:
        super().__init__()
        self.models = ModelCache()

    def score(self, structures: list[Atoms], relaxing: Relaxing, judging: Judging) -> list[Scored | Broken]:
        """Relax and score; a structure that falls apart comes back as Broken, the others are unharmed."""
        relaxed = self._relax(structures, relaxing, judging)
        whole = [one for one in relaxed if not isinstance(one, Broken)]
        predictions = iter(self.predict([atoms for atoms, _ in whole], judging))
        return [
            one if isinstance(one, Broken) else _scored(raw, one[0], next(predictions), one[1])
            for raw, one in zip(structures, relaxed, strict=True)
        ]

    def predict(self, structures: list[Atoms], judging: Judging) -> list[Prediction]:
        """Predictions for structures as they stand."""
        distances = self.models.get(judging.surrogate).predict(structures, judging.target)
        energies = self.models.get(judging.potential).predict(structures)
        return [
            Prediction(
                distance=d.distance,
                distance_std=d.distance_std,
                energy_per_atom_ev=e.energy_ev / len(atoms),
                energy_std_per_atom_ev=e.energy_std_ev_per_atom,
            )
            for atoms, d, e in zip(structures, distances, energies, strict=True)
        ]

    def _relax(
        self, structures: list[Atoms], relaxing: Relaxing, judging: Judging
    ) -> list[tuple[Atoms, float] | Broken]:
        """Relaxed structures with their root mean square displacement, Å."""
        from nearedge_services.potential.errors import NonFiniteForces
        from nearedge_services.potential.relax import RelaxationStatus, relax_batch
        from nearedge_services.surrogate.bias import SpectralBias

        bias = None
        if relaxing.spectral_weight_ev > 0:
            surrogate = self.models.get(judging.surrogate)
            bias = SpectralBias(surrogate, judging.target, relaxing.spectral_weight_ev).evaluate
        model = self.models.get(judging.potential)
        try:
            ends = relax_batch(structures, model, relaxing.steps, members=1, bias=bias)
        except NonFiniteForces as error:
            if len(structures) == 1:
                return [Broken(structures[0], str(error))]
            alone = [self._relax([one], relaxing, judging) for one in structures]
            return [result for results in alone for result in results]
        return [
            Broken(raw, "it fell apart while relaxing")
            if end.status is RelaxationStatus.EXPLODED
            else (end.atoms, end.rms_displacement_a)
            for raw, end in zip(structures, ends, strict=True)
        ]


def _scored(raw: Atoms, atoms: Atoms, prediction: Prediction, rms_displacement_a: float) -> Scored:
    from nearedge_services.structures.coordination import coordination_fractions, shortest_contact
    from nearedge_services.structures.fingerprint import fingerprint
    from nearedge_services.structures.validity import relative_contact

    coordination = coordination_fractions(atoms)
    return Scored(
        atoms=atoms,
        prediction=prediction,
        fingerprint=fingerprint(atoms),
        contact=relative_contact(atoms),
        shortest_contact_a=shortest_contact(atoms),
        overcoordinated_fraction=sum(share for number, share in coordination.items() if number > 4),
        rms_displacement_a=rms_displacement_a,
        coordination=coordination,
        raw_coordination=coordination_fractions(raw),
    )

"""What a refinement gives back."""

from dataclasses import dataclass
from enum import StrEnum

from ase import Atoms


class RefinementStatus(StrEnum):
    """How a refinement ended."""

    CONVERGED = "converged"
    """The largest force is below the threshold."""
    OUT_OF_STEPS = "out of steps"
    """The last relaxation ran out of steps; the structure is whole."""
    EXPLODED = "exploded"
    """Atoms flew apart, while relaxing or annealing."""
    NOT_FINITE = "not finite"
    """Energies, forces or positions became NaN or infinite."""


@dataclass(frozen=True)
class Moment:
    """Where a structure was at the end of a stage."""

    stage: str
    """``start``, ``relaxed``, ``annealed`` or ``final``."""
    energy_ev: float
    """Energy of the potential alone, eV."""
    bias_ev: float
    """Energy of the bias, eV: weight × mismatch for a spectral one, 0 without."""


@dataclass(frozen=True)
class Refined:
    """One refined structure (a copy, without calculator), or the last that is known of one that failed."""

    atoms: Atoms
    status: RefinementStatus
    reason: str
    """Why it failed; empty otherwise."""
    rms_displacement_a: float
    """Root mean square distance of the atoms from where they started, Å, without the drift of the whole."""
    max_displacement_a: float
    """The largest of these distances, Å."""
    history: tuple[Moment, ...]
    """Energies after each stage that was finished, the start first."""

    @property
    def failed(self) -> bool:
        """True when the structure must not be used."""
        return self.status in {RefinementStatus.EXPLODED, RefinementStatus.NOT_FINITE}

    @property
    def energy_ev(self) -> float:
        """Energy of the potential alone at the end, eV; NaN where no energy was finite."""
        return self.history[-1].energy_ev if self.history else float("nan")

    @property
    def bias_ev(self) -> float:
        """Energy of the bias at the end, eV; NaN where none was finite."""
        return self.history[-1].bias_ev if self.history else float("nan")

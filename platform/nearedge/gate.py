"""The gate: what a candidate must fulfil before it may cost a label."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearedge.config import GateConfig

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """``reason`` is None for a candidate that passes; the first word of a reason is the same for its kind."""

    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether the candidate may be labelled."""
        return self.reason is None


def first_word(reason: str | None) -> str:
    """The word that names the kind of a reason: ``contact 0.61 of …`` gives ``contact``."""
    words = (reason or "").split()
    return words[0].rstrip(":;,.") if words else "unknown"


@dataclass(frozen=True)
class EnergyReference:
    """Energy per atom of the starting structures against density: a kernel-weighted mean.

    ``densities`` (S,) in g/cm³, ``energies`` (S,) in eV per atom.
    """

    densities: Array
    energies: Array
    bandwidth_g_cm3: float = 0.2

    def at(self, density_g_cm3: float) -> float:
        """Energy per atom in eV of starting structures of about this density (Nadaraya–Watson mean)."""
        exponent = -0.5 * ((self.densities - density_g_cm3) / self.bandwidth_g_cm3) ** 2
        weights = np.exp(exponent - exponent.max())
        return float(weights @ self.energies / weights.sum())


@dataclass(frozen=True)
class Measures:
    """What the gate looks at; the contact is relative to the covalent radii, the last is a fingerprint distance."""

    contact: float
    overcoordinated_fraction: float
    density_g_cm3: float
    energy_per_atom_ev: float
    nearest_fingerprint: float


def judge(measures: Measures, reference: EnergyReference, gate: GateConfig, novelty: float) -> Verdict:
    """Pass or reject; NaN in any measure rejects."""
    above = measures.energy_per_atom_ev - reference.at(measures.density_g_cm3)
    finite = np.isfinite([measures.contact, measures.overcoordinated_fraction, above]).all()
    if not finite or np.isnan(measures.nearest_fingerprint):
        return Verdict("non-finite measures")
    if measures.contact < gate.min_contact:
        return Verdict(
            f"contact {measures.contact:.2f} of the covalent distance, below {gate.min_contact:.2f}"
        )
    if measures.overcoordinated_fraction > gate.max_overcoordinated_fraction:
        return Verdict(
            f"coordination above four for {measures.overcoordinated_fraction:.0%} of the atoms, "
            f"limit {gate.max_overcoordinated_fraction:.0%}"
        )
    if above > gate.max_energy_above_seeds_ev_per_atom:
        return Verdict(
            f"energy {above:.2f} eV/atom above the starting structures, "
            f"limit {gate.max_energy_above_seeds_ev_per_atom:.2f}"
        )
    if measures.nearest_fingerprint < novelty:
        return Verdict(f"known: fingerprint distance {measures.nearest_fingerprint:.3g}, below {novelty:.3g}")
    return Verdict(None)

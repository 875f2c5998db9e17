"""The quality record that every generated structure carries in its ``info``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.potential.potential import Potential
    from nearedge_services.refinement.results import Refined
    from nearedge_services.spectra.target import Target
    from nearedge_services.surrogate.surrogate import Surrogate

Record = dict[str, Any]


@dataclass(frozen=True)
class Judges:
    """The models that predict; None for what is not there or not asked for."""

    potential: "Potential | None"
    surrogate: "Surrogate | None"
    target: "Target | None"

    def predict(self, structures: "Sequence[Atoms]") -> list[Record]:
        """Predicted energy per atom (eV) and spectral distance (1/eV), each with its standard deviation.

        Raises NonFiniteForces when an energy or a force is not finite.
        """
        records: list[Record] = [{} for _ in structures]
        if self.potential is not None:
            for record, atoms, energy in zip(
                records, structures, self.potential.predict(structures), strict=True
            ):
                record["predicted_energy_per_atom_ev"] = energy.energy_ev / len(atoms)
                record["predicted_energy_std_per_atom_ev"] = energy.energy_std_ev_per_atom
        for record, distance in zip(records, self.distances(structures), strict=True):
            record.update(distance)
        return records

    def distances(self, structures: "Sequence[Atoms]") -> list[Record]:
        """The spectral part of `predict`; empty records without a target."""
        if self.surrogate is None or self.target is None:
            return [{} for _ in structures]
        return [
            {"predicted_distance": one.distance, "predicted_distance_std": one.distance_std}
            for one in self.surrogate.predict(structures, self.target)
        ]


def geometry(atoms: "Atoms") -> Record:
    """Density (g/cm³), shortest contact (Å) and shares of one- to five-fold atoms."""
    from nearedge_services.structures.composition import density_g_cm3
    from nearedge_services.structures.coordination import coordination_fractions, shortest_contact

    shares = coordination_fractions(atoms)
    record: Record = {"density_g_cm3": density_g_cm3(atoms)}
    contact = shortest_contact(atoms)
    if isfinite(contact):  # one atom in a huge cell has no neighbour
        record["shortest_contact_a"] = contact
    return record | {f"cn{number}_fraction": shares.get(number, 0.0) for number in range(1, 6)}


def refinement_record(refined: "Refined", raw_distance: Record) -> Record:
    """How far the refinement moved the structure (Å), and what it was before (eV per atom, 1/eV)."""
    record: Record = {
        "refinement_status": str(refined.status),
        "refined_rms_displacement_a": refined.rms_displacement_a,
        "refined_max_displacement_a": refined.max_displacement_a,
        "raw_energy_per_atom_ev": refined.history[0].energy_ev / len(refined.atoms),
    }
    if raw_distance:
        record["raw_predicted_distance"] = raw_distance["predicted_distance"]
    return record

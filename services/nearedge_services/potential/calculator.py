"""The potential as an ASE calculator."""

from typing import TYPE_CHECKING, Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

if TYPE_CHECKING:
    from nearedge_services.potential.potential import Potential


class PotentialCalculator(Calculator):
    """Committee mean of energy (eV) and forces (eV/Å), float32 inside.

    `results["energy_std"]` is the calibrated standard deviation of the energy per atom in eV and
    `results["forces_std"]` (N,) that of the forces in eV/Å; with one member both are the calibration's
    constants. Raises NonFiniteForces instead of returning garbage, UserError for an element that the
    potential does not know.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "energy_std",
        "forces_std",
    ]

    def __init__(self, potential: "Potential", members: int | None = None) -> None:
        super().__init__()
        self.potential = potential
        self.members = members

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Fill `results` for the structure; everything is computed at once."""
        super().calculate(atoms, None, system_changes)
        output = self.potential.evaluate([self.atoms], self.members)[0]
        energy = float(output.energies.mean())
        results: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "forces": output.forces.mean(axis=0),
            "energy_std": float(self.potential.calibration.energy.std(output.energy_spread())),
            "forces_std": self.potential.calibration.force.std(output.force_spread()),
        }
        self.results = results

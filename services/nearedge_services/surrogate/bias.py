"""The spectral mismatch as an energy, for relaxing or annealing on energy plus spectrum."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from nearedge_services.spectra.target import Target
from nearedge_services.surrogate.comparison import check_grid
from nearedge_services.surrogate.surrogate import Surrogate

Array = npt.NDArray[np.float64]


class SpectralBias(Calculator):
    """ASE calculator: energy = ``weight_ev`` × mismatch (eV), forces (eV/Å) by differentiation.

    Add it to a potential with ``ase.calculators.mixing.SumCalculator``. ``weight_ev`` is in eV per unit of
    ``Surrogate.mismatch``, which grows with the number of atoms as the energy does.
    Raises UserError when target and surrogate are on different grids.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(
        self, surrogate: Surrogate, target: Target, weight_ev: float, members: int | None = None
    ) -> None:
        super().__init__()
        check_grid(target, surrogate.grid)
        self.surrogate = surrogate
        self.target = target
        self.weight_ev = weight_ev
        self.members = members

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: Any = all_changes,
    ) -> None:
        """Energy and forces of ``atoms``."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        ((energy, forces),) = self.evaluate([self.atoms])
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, Array]]:
        """Energy (eV) and forces ((N, 3), eV/Å) of several structures from one call of the surrogate."""
        batch = self.surrogate.batch(structures)
        positions = batch.positions.requires_grad_()
        energies = self.weight_ev * self.surrogate.mismatch(
            batch.with_positions(positions), self.target, self.members
        )
        (gradient,) = torch.autograd.grad(energies.sum(), positions)
        ends = np.cumsum(batch.counts.cpu().numpy())[:-1]
        forces = np.split(-gradient.double().cpu().numpy(), ends)
        return list(zip(energies.detach().double().cpu().tolist(), forces, strict=True))

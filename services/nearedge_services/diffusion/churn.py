"""How much noise a sampler may add on its way: by density, as much as the prior bears."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from nearedge_services.structures.material import packing_fraction

Array = npt.NDArray[np.float64]

DEFAULT_CHURN_NOISE = 0.35
"""For a prior that was never calibrated."""


@dataclass(frozen=True)
class ChurnNoise:
    """Amplitude of the added noise (see `SamplerSettings.churn_noise`) by number density in 1/Å³, ascending."""

    number_densities: tuple[float, ...]
    amplitudes: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.number_densities) != len(self.amplitudes) or not self.amplitudes:
            raise ValueError(f"{len(self.amplitudes)} amplitudes for {len(self.number_densities)} densities")
        if list(self.number_densities) != sorted(self.number_densities):
            raise ValueError("the number densities must ascend")

    def at(self, number_densities: Tensor) -> Tensor:
        """Amplitudes (B,) at these number densities (B,) in 1/Å³: linear between, constant beyond."""
        values = np.interp(number_densities.double().cpu().numpy(), self.number_densities, self.amplitudes)
        return torch.as_tensor(values).to(number_densities)


class CalibrationSettings(BaseModel):
    """How `calibrated` tries. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    densities: int = Field(default=7, ge=1)
    """Densities, evenly over those of the networks."""
    amplitudes: tuple[float, ...] = Field(default=(0.35, 0.6, 0.8, 1.0, 1.2, 1.35), min_length=2)
    """Amplitudes to try; none below the least or above the largest comes out."""
    structures: int = Field(default=6, ge=1)
    """Structures at each density and amplitude."""
    neighbours: int = Field(default=8, ge=1)
    """Networks, those of the nearest densities, whose energies the structures' are compared with."""
    strain_ev: float = Field(default=0.1, gt=0)
    """Wanted median energy of sampled structures above the networks', eV/atom, but for thin ones."""
    thin_strain_ev: float = Field(default=0.3, gt=0)
    """The same in thin structures: thin networks of a fast quench have many two-fold atoms, which a colder walk
    orders away."""
    thin_packing: float = Field(default=0.13, gt=0)
    """Packing fraction of covalent spheres (see `packing_fraction`) up to which that holds: 1.4 g/cm³ in carbon."""
    dense_packing: float = Field(default=0.197, gt=0)
    """That from which ``strain_ev`` holds: 2.15 g/cm³ in carbon. Between the two it is linear."""

    def wanted_ev(self, packing: float) -> float:
        """Wanted strain, eV/atom, at this packing fraction."""
        ends = (self.thin_packing, self.dense_packing)
        return float(np.interp(packing, ends, (self.thin_strain_ev, self.strain_ev)))


def calibrated(
    networks: Sequence[Atoms],
    energies: Callable[[Sequence[Atoms]], Sequence[float]],
    draw: Callable[[Sequence[Atoms], float], Sequence[Atoms]],
    settings: CalibrationSettings,
) -> ChurnNoise:
    """The largest amplitude at each density that leaves structures strained by no more than the settings say.

    With little noise structures are ordered beyond the networks, with much they are strained by the network's
    errors, and the more so the denser they are. ``energies`` in eV per atom; ``draw`` gives a structure in each of
    these cells, sampled at this amplitude. At each density the energies are fitted by a straight line in the square
    of the amplitude, the variance of what is added.
    """
    density = np.array([len(atoms) / atoms.get_volume() for atoms in networks])
    rest = np.asarray(energies(networks))
    squares = np.square(settings.amplitudes)
    points = np.linspace(density.min(), density.max(), settings.densities)
    chosen = []
    for point in points:
        near = np.argsort(np.abs(density - point))[: settings.neighbours]
        cells = [_resized(networks[int(k)], point) for k in np.resize(near, settings.structures)]
        strains = [
            np.median(energies(draw(cells, amplitude))) - np.median(rest[near])
            for amplitude in settings.amplitudes
        ]
        slope, start = np.polyfit(squares, strains, 1)
        wanted = (settings.wanted_ev(packing_fraction(cells[0])) - start) / slope if slope > 0 else np.inf
        chosen.append(float(np.sqrt(np.clip(wanted, squares.min(), squares.max()))))
    return ChurnNoise(tuple(points.tolist()), tuple(round(value, 3) for value in chosen))


def _resized(atoms: Atoms, number_density: float) -> Atoms:
    """The atoms in their cell at another number density, 1/Å³."""
    cell = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=True)
    factor = (len(atoms) / atoms.get_volume() / number_density) ** (1 / 3)
    cell.set_cell(cell.cell.array * factor, scale_atoms=True)
    return cell

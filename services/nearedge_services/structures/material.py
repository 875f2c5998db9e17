"""How lengths and temperatures that are given for carbon carry over to another material."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from nearedge_services.structures.composition import Composition

_CARBON_RADIUS_A = float(covalent_radii[atomic_numbers["C"]])
_CARBON_MELT_K = 7000.0

THIN_PACKING, DENSE_PACKING = 0.147, 0.23
"""Packing fractions (see `packing_fraction`) up to which a network is thin, and from which on it is dense: 1.6 and
2.5 g/cm³ in carbon."""


@dataclass(frozen=True)
class Scales:
    """Factors to multiply carbon's numbers with; both are one for carbon.

    length: of cutoffs and displacements (Å): the ratio of bond lengths, each the mean sum of two covalent radii
    (Cordero et al., Dalton Trans. 2832 (2008)); 1.46 for Si, 1.23 for SiC.
    temperature: of quenches and anneals (K): the ratio of the classical melts' temperatures; 0.5 for Si, 0.75 for
    SiC.
    """

    length: float
    temperature: float

    @classmethod
    def of(cls, composition: Composition) -> "Scales":
        """Those of a composition."""
        from nearedge_services.structures.melt_quench import MeltQuenchSettings, melt_temperature_k

        length = float(np.mean(covalent_radii[composition.numbers] / _CARBON_RADIUS_A))
        melt_k = melt_temperature_k(composition, MeltQuenchSettings())
        return cls(length, melt_k / _CARBON_MELT_K)


def packing_fraction(atoms: Atoms) -> float:
    """Volume of the atoms' covalent spheres (Cordero et al.) over that of the cell: 0.147 in carbon of 1.6 g/cm³,
    0.32 in diamond, 0.29 in crystalline silicon. Empty space in the cell counts as thinness.
    """
    spheres = 4 / 3 * np.pi * covalent_radii[atoms.numbers] ** 3
    return float(spheres.sum() / atoms.get_volume())

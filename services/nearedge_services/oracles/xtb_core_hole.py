"""K-edge XANES with a core hole: the absorber is replaced by the next element (equivalent cores, Z+1).

The hole in the 1s shell is screened by one more charge of the nucleus, so the valence electrons of an excited C
atom are those of N (W. L. Jolly and D. N. Hendrickson, J. Am. Chem. Soc. 92, 1863 (1970)). One self-consistent
run per absorber. Each cell stays neutral: the electron that N brings is the photoelectron, held in the cell
while the others relax. No charged cell and no background is needed. For the spectrum it is not there: orbitals
are filled with the electrons of the initial state, so that the lowest final state is not blocked by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.geometry import get_distances

from nearedge_services.oracles.elsewhere import Compute, Row
from nearedge_services.oracles.errors import BadGeometry
from nearedge_services.oracles.xtb_xanes import (
    Orbitals,
    broadened,
    chemical_potential,
    onsite_energies,
)

Array = npt.NDArray[np.float64]

#: Weight of an atom in the alignment grows with this power of its distance from the hole: those far off decide.
_FAR = 6


def excited(atoms: Atoms, absorber: int) -> Atoms:
    """A copy in which atom ``absorber`` is the next element of the periodic table."""
    copy = atoms.copy()
    copy.numbers[absorber] += 1
    return copy


@dataclass(frozen=True)
class Reference:
    """What excited cells are compared with, and how their spectra are drawn.

    Attributes:
        mu_ev: chemical potential of the initial state, eV.
        onsite_ev: (N,) its on-site energies, eV.
        kt_ev: temperature of the occupations, eV.
        sigma_ev: broadening, eV.
        energies_ev: (G,) from that chemical potential, eV.
    """

    mu_ev: float
    onsite_ev: Array
    kt_ev: float
    sigma_ev: float
    energies_ev: Array


Each = Callable[[Sequence[int], Compute], dict[int, Row]]


def one_after_another(absorbers: Sequence[int], compute: Compute) -> dict[int, Row]:
    """The plainest way to do all of them."""
    return {one: compute(one) for one in absorbers}


def z_plus_one(
    atoms: Atoms,
    ground: Orbitals,
    run: Callable[[Atoms], Orbitals],
    kt_ev: float,
    sigma_ev: float,
    energies_ev: Array,
    each: Each = one_after_another,
) -> tuple[Array, Array]:
    """Spectra (N, G) in 1/eV with a core hole on each absorber in turn, and what aligned each (N,), eV.

    ``energies_ev`` (G,) count from the chemical potential of the initial state ``ground``, as without a hole:
    the orbitals of an excited cell are shifted until the on-site energies of the atoms far from the hole are those
    of the initial state, so an edge that moves below zero is bound to the hole. Atoms without p functions get zeros.
    ``run`` gives the orbitals of a neutral cell; its errors pass through. ``each`` does all absorbers. Raises
    BadGeometry for a single atom.
    """
    if len(atoms) < 2:
        raise BadGeometry("a core hole needs a second atom to align the energies with")
    mu = chemical_potential(ground.energies_ev, ground.n_electrons, kt_ev)
    reference = Reference(mu, onsite_energies(ground), kt_ev, sigma_ev, energies_ev)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    absorbers = [int(one) for one in np.unique(ground.atom_of[ground.is_p])]
    rows = each(absorbers, partial(_absorber, run, bare, reference))
    spectra, shifts = np.zeros((len(atoms), len(energies_ev))), np.zeros(len(atoms))
    for absorber, row in rows.items():
        spectra[absorber], shifts[absorber] = row["xanes"], row["shift_ev"]
    return spectra, shifts


def _absorber(run: Callable[[Atoms], Orbitals], atoms: Atoms, reference: Reference, absorber: int) -> Row:
    orbitals = run(excited(atoms, absorber))
    shift = _far_weights(atoms, absorber) @ (reference.onsite_ev - onsite_energies(orbitals))
    kt_ev = reference.kt_ev
    mu = chemical_potential(orbitals.energies_ev, orbitals.n_electrons - 1, kt_ev)
    energies = reference.energies_ev + reference.mu_ev - shift
    spectrum = broadened(orbitals, mu, kt_ev, reference.sigma_ev, energies)[absorber]
    return {"xanes": spectrum, "shift_ev": np.array(shift)}


def _far_weights(atoms: Atoms, absorber: int) -> Array:
    """(N,), sum 1: the farther from the absorber's nearest image the more; continuous in the geometry."""
    _, distances = get_distances(
        atoms.positions[absorber : absorber + 1], atoms.positions, cell=atoms.cell, pbc=atoms.pbc
    )
    weights = distances[0] ** _FAR
    return weights / weights.sum()

"""K-edge XANES of all atoms from one tight-binding calculation: the p-projected unoccupied density of states.

Initial-state approximation with the dipole matrix element 1s -> p taken as constant: the intensity of
absorber a is

    I_a(E) = sum_n (1 - f_n) w_an g(E - (e_n - mu)),    w_an = sum over p functions i of a of |(S^1/2 C)_in|^2

with Löwdin weights w, Fermi-Dirac occupations f, a normalised Gaussian g and the chemical potential mu. All
of it is a continuous function of the geometry: no orbital is counted as either full or empty.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_expit, logsumexp

Array = npt.NDArray[np.float64]

#: Orbitals with fewer holes than this contribute nothing that single precision could show.
_NEGLIGIBLE = 1e-7


@dataclass(frozen=True)
class Orbitals:
    """Orbitals of a cell at the Γ point: M orbitals on M basis functions of N atoms.

    Attributes:
        energies_ev: (M,) ascending.
        coefficients: (M, M), a column for each orbital: Cᵀ S C = 1.
        overlap: (M, M) overlap S of the basis functions.
        is_p: (M,) whether a basis function has angular momentum 1.
        atom_of: (M,) index of the atom a basis function sits on.
        n_electrons: valence electrons in the cell.
    """

    energies_ev: Array
    coefficients: Array
    overlap: Array
    is_p: npt.NDArray[np.bool_]
    atom_of: npt.NDArray[np.int64]
    n_electrons: float


def chemical_potential(energies_ev: Array, n_electrons: float, kt_ev: float) -> float:
    """Chemical potential mu in eV with 2 sum f(e_n - mu) = n_electrons.

    Solved as "electrons above = holes below", both in logarithms, which stays well defined where a gap is
    many kT
    wide: there mu is mid-gap (shifted by kT/2 times the logarithm of the degeneracies' ratio); in a metal it
    is the Fermi level. One rule, continuous in the orbital energies. Raises ValueError where no orbital is
    left empty or filled.
    """
    if not 0 < n_electrons < 2 * len(energies_ev):
        raise ValueError(f"{n_electrons=} leaves no gap or Fermi level among {len(energies_ev)} orbitals")
    filled = np.clip(n_electrons - 2 * np.arange(len(energies_ev)), 0, 2)  # electrons at zero temperature
    with np.errstate(divide="ignore"):
        log_filled, log_empty = np.log(filled), np.log(2 - filled)

    def excess(mu: float) -> float:
        reduced = (energies_ev - mu) / kt_ev
        return float(logsumexp(log_empty + log_expit(-reduced)) - logsumexp(log_filled + log_expit(reduced)))

    return float(brentq(excess, energies_ev[0] - 50 * kt_ev, energies_ev[-1] + 50 * kt_ev, xtol=1e-10))


def lowdin(orbitals: Orbitals) -> Array:
    """S^1/2 C, shape (M, M): a column for each orbital in orthogonal basis functions."""
    values, vectors = np.linalg.eigh(orbitals.overlap)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root @ orbitals.coefficients


def p_weights(orbitals: Orbitals, columns: npt.NDArray[np.bool_]) -> Array:
    """Löwdin weight of each atom's p functions in the chosen orbitals, shape (N, number of columns)."""
    squares = lowdin(orbitals)[orbitals.is_p][:, columns] ** 2
    n_atoms = int(orbitals.atom_of.max()) + 1
    belongs = (orbitals.atom_of[orbitals.is_p] == np.arange(n_atoms)[:, None]).astype(float)
    return belongs @ squares


def onsite_energies(orbitals: Orbitals) -> Array:
    """Mean diagonal element of the Hamiltonian over each atom's orthogonal basis functions, eV, shape (N,)."""
    diagonal = lowdin(orbitals) ** 2 @ orbitals.energies_ev
    return np.bincount(orbitals.atom_of, diagonal) / np.bincount(orbitals.atom_of)


def xanes(orbitals: Orbitals, kt_ev: float, sigma_ev: float, energies_ev: Array) -> tuple[Array, float]:
    """Spectra (N, G) in 1/eV on ``energies_ev`` (G,), which count from the chemical potential; and that in
    eV.

    ``sigma_ev`` is the standard deviation of the Gaussian broadening. An element without p functions in the
    basis (hydrogen) gets zeros.
    """
    mu = chemical_potential(orbitals.energies_ev, orbitals.n_electrons, kt_ev)
    return broadened(orbitals, mu, kt_ev, sigma_ev, energies_ev + mu), mu


def broadened(orbitals: Orbitals, mu_ev: float, kt_ev: float, sigma_ev: float, energies_ev: Array) -> Array:
    """Spectra (N, G) in 1/eV on ``energies_ev`` (G,) of the orbitals' own axis, filled up to ``mu_ev``."""
    emptiness = np.exp(log_expit((orbitals.energies_ev - mu_ev) / kt_ev))
    chosen = (emptiness > _NEGLIGIBLE) & (orbitals.energies_ev < energies_ev[-1] + 8 * sigma_ev)
    weights = p_weights(orbitals, chosen) * emptiness[chosen]
    arguments = (energies_ev - orbitals.energies_ev[chosen, None]) / sigma_ev
    peaks = np.exp(-0.5 * arguments**2) / (sigma_ev * np.sqrt(2 * np.pi))
    return weights @ peaks

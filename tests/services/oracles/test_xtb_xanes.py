"""The chemical potential and the p-projected spectrum on orbitals made up for the purpose."""

import numpy as np
import pytest

from nearedge_services.oracles.xtb_xanes import Orbitals, chemical_potential, xanes

ENERGIES = np.linspace(-10, 10, 401)


def test_chemical_potential_is_mid_gap_however_wide_the_gap():
    for gap in (0.1, 1.0, 30.0):
        levels = np.array([-3.0, 0.0, gap, gap + 3.0])
        assert chemical_potential(levels, 4, 0.02) == pytest.approx(gap / 2, abs=1e-3)


def test_chemical_potential_of_a_half_filled_level_is_the_level():
    assert chemical_potential(np.array([-5.0, 1.3, 6.0]), 3, 0.02) == pytest.approx(1.3, abs=1e-6)


def test_chemical_potential_keeps_the_electrons():
    levels = np.sort(np.random.default_rng(0).normal(size=60))
    for electrons in (20, 21, 33.4):
        mu = chemical_potential(levels, electrons, 0.1)
        assert (2 / (1 + np.exp((levels - mu) / 0.1))).sum() == pytest.approx(electrons, abs=1e-6)


def test_chemical_potential_needs_something_to_fill():
    for electrons in (0, 4):
        with pytest.raises(ValueError, match="n_electrons"):
            chemical_potential(np.array([0.0, 1.0]), electrons, 0.02)


def two_atoms(overlap: float) -> Orbitals:
    """One s function on atom 0 and one p function on atom 1."""
    matrix = np.array([[1.0, overlap], [overlap, 1.0]])
    hamiltonian = np.array([[-2.0, 0.4], [0.4, 2.0]])
    values, vectors = np.linalg.eigh(matrix)
    inverse_root = (vectors / np.sqrt(values)) @ vectors.T
    levels, rotated = np.linalg.eigh(inverse_root @ hamiltonian @ inverse_root)
    is_p, atom_of = np.array([False, True]), np.array([0, 1])
    return Orbitals(levels, inverse_root @ rotated, matrix, is_p, atom_of, 2.0)


def test_only_the_atom_with_p_functions_absorbs_and_weights_are_normalised():
    for overlap in (0.0, 0.3):
        spectra, _ = xanes(two_atoms(overlap), 0.02, 0.3, ENERGIES)
        assert spectra.shape == (2, 401)
        assert spectra[0].max() == 0
        assert 0.5 < spectra[1].sum() * 0.05 <= 1 + 1e-9


def test_a_common_shift_of_the_orbitals_changes_nothing():
    orbitals = two_atoms(0.2)
    shifted = Orbitals(**{**vars(orbitals), "energies_ev": orbitals.energies_ev + 7.0})
    np.testing.assert_allclose(
        xanes(orbitals, 0.02, 0.3, ENERGIES)[0], xanes(shifted, 0.02, 0.3, ENERGIES)[0], atol=1e-8
    )


def test_a_level_crossing_the_fermi_level_fades_in():
    spectra = []
    for level in np.linspace(-0.05, 0.05, 21):
        levels = np.array([-3.0, level, 0.0, 3.0])
        order = np.argsort(levels)
        orbitals = Orbitals(
            levels[order],
            np.eye(4)[:, order],
            np.eye(4),
            np.array([False, True, False, False]),
            np.arange(4),
            4.0,
        )
        spectra.append(xanes(orbitals, 0.02, 0.3, ENERGIES)[0][1].max())
    assert np.all(np.diff(spectra) > 0)
    assert np.diff(spectra).max() < 0.2 * spectra[-1]

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from nearedge_db.errors import UserError
from nearedge_services.inference.library import joined, library_of, read_library, write_library


def labelled(group=None):
    atoms = bulk("C", "diamond", 3.567, cubic=True)
    atoms.info["xanes_energies"] = np.linspace(0, 10, 21)
    atoms.arrays["xanes"] = np.ones((8, 21)) * np.arange(1, 9)[:, None]
    if group is not None:
        atoms.info["group"] = group
    return atoms


def test_labelled_structures_become_numbers():
    library = library_of([labelled("a"), labelled("a"), labelled()], "C")
    assert library.spectra == pytest.approx(np.full((3, 21), 0.1))
    assert library.densities_g_cm3 == pytest.approx(np.full(3, 3.51), abs=0.01)
    assert library.shares.tolist() == [[0, 0, 1]] * 3
    assert library.groups[0] == library.groups[1] != library.groups[2]
    assert len(library.subset([2])) == 1


def test_a_library_comes_back_from_its_file(tmp_path):
    library = library_of([labelled("a"), labelled("b")], "C")
    write_library(tmp_path / "library.npz", library)
    back = read_library(tmp_path / "library.npz")
    assert back.grid == library.grid
    assert back.groups == library.groups
    assert np.allclose(back.spectra, library.spectra, rtol=1e-6)
    assert np.array_equal(back.shares, library.shares)
    assert np.array_equal(back.densities_g_cm3, library.densities_g_cm3)


def test_joined_libraries_keep_their_groups_apart():
    """Networks of two pretrainings may bear the same name."""
    both = joined(library_of([labelled("a"), labelled("a")], "C"), library_of([labelled("a")], "C"))
    assert both.groups == ("start-a", "start-a", "a")
    assert len(both) == len(both.densities_g_cm3) == len(both.shares) == 3
    other = labelled()
    other.info["xanes_energies"] = np.linspace(0, 5, 21)
    with pytest.raises(UserError, match="different energy grids"):
        joined(both, library_of([other], "C"))


def test_in_a_window_spectra_have_unit_area_there():
    library = library_of([labelled("a"), labelled("b")], "C")
    library.spectra[:] *= 1 + 0.1 * library.grid.energies
    mask = (library.grid.energies >= 2) & (library.grid.energies <= 7)
    inside = library.in_window(mask)
    assert (inside.grid.start_ev, inside.grid.stop_ev, inside.grid.size) == (2.0, 7.0, mask.sum())
    assert inside.spectra @ inside.grid.weights == pytest.approx(np.ones(2))
    ratio = inside.spectra / library.spectra[:, mask]
    assert ratio == pytest.approx(np.full(ratio.shape, ratio[0, 0]))
    assert np.array_equal(inside.densities_g_cm3, library.densities_g_cm3)
    with pytest.raises(ValueError, match="area"):
        replace(library, spectra=-library.spectra).in_window(mask)


def test_what_is_no_library_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_library(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="holds no library"):
        read_library(tmp_path / "other.npz")

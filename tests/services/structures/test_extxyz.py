"""Structures on disk."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.structures.extxyz import labelled, read_structures, write_structures


def labelled_atoms(points: int = 21, seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms("C4", positions=rng.uniform(0, 4, (4, 3)), cell=[4, 4, 4], pbc=True)
    atoms.info.update(REF_energy=-31.25, xanes_energies=np.linspace(-2, 28, points), group="network 7")
    atoms.arrays["REF_forces"] = rng.normal(size=(4, 3))
    atoms.arrays["xanes"] = rng.uniform(0, 1, (4, points))
    return atoms


@pytest.mark.parametrize(
    "points", [1, 3, 9, 21]
)  # one, three and nine numbers have special forms in the format
def test_labels_come_back(tmp_path, points):
    original = labelled_atoms(points)
    write_structures(tmp_path / "a.extxyz", [original, labelled_atoms(points, 1)])
    back = read_structures(tmp_path / "a.extxyz")
    assert len(back) == 2
    assert labelled(back[0])
    assert back[0].pbc.all()
    assert back[0].info["REF_energy"] == -31.25
    for name in ("positions", "REF_forces", "xanes"):
        np.testing.assert_allclose(back[0].arrays[name], original.arrays[name], atol=1e-8)
    np.testing.assert_allclose(back[0].info["xanes_energies"], original.info["xanes_energies"])


@pytest.mark.parametrize("group", ["7", "2.0", "two words"])
def test_groups_stay_text(tmp_path, group):
    atoms = labelled_atoms()
    atoms.info["group"] = group
    write_structures(tmp_path / "a.extxyz", [atoms])
    assert isinstance(read_structures(tmp_path / "a.extxyz")[0].info["group"], str)


def test_append(tmp_path):
    path = tmp_path / "a.extxyz"
    for seed in range(3):
        write_structures(path, [labelled_atoms(seed=seed)], append=True)
    assert len(read_structures(path)) == 3


def test_calculator_results_are_not_written(tmp_path):
    atoms = labelled_atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((4, 3)))
    write_structures(tmp_path / "a.extxyz", [atoms])
    assert " energy=" not in (tmp_path / "a.extxyz").read_text()


def test_labelled_needs_everything():
    assert labelled(labelled_atoms())
    for name in ("REF_energy", "xanes_energies"):
        atoms = labelled_atoms()
        del atoms.info[name]
        assert not labelled(atoms)
    for name in ("REF_forces", "xanes"):
        atoms = labelled_atoms()
        del atoms.arrays[name]
        assert not labelled(atoms)


def test_nan_is_refused_before_anything_is_written(tmp_path):
    for where in ("xanes", "REF_forces", "positions"):
        broken = labelled_atoms()
        broken.arrays[where][1, 0] = np.nan
        with pytest.raises(UserError, match=r"NaN.*structure 1"):
            write_structures(tmp_path / "a.extxyz", [labelled_atoms(), broken])
    broken = labelled_atoms()
    broken.info["REF_energy"] = float("nan")
    with pytest.raises(UserError, match="REF_energy has NaN"):
        write_structures(tmp_path / "a.extxyz", [broken])
    assert not (tmp_path / "a.extxyz").exists()


def test_shapes_are_checked(tmp_path):
    broken = labelled_atoms()
    broken.info["xanes_energies"] = np.linspace(0, 1, 5)
    with pytest.raises(UserError, match=r"xanes has the shape \(4, 21\) for 5"):
        write_structures(tmp_path / "a.extxyz", [broken])
    del broken.info["xanes_energies"]
    with pytest.raises(UserError, match="no xanes_energies"):
        write_structures(tmp_path / "a.extxyz", [broken])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.97])
def test_a_truncated_file_is_one_clear_error(tmp_path, keep):
    path = tmp_path / "a.extxyz"
    write_structures(path, [labelled_atoms()])
    text = path.read_text()
    path.write_text(text[: int(keep * len(text))])
    with pytest.raises(UserError) as caught:
        read_structures(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "hello\nworld\n", '2\nLattice="1 0 0 0 1 0 0 0 1"\nC 0 0\nC 1 1\n', "1\n\nC a b c\n"]
)
def test_malformed_files(tmp_path, text):
    path = tmp_path / "a.extxyz"
    path.write_text(text)
    with pytest.raises(UserError):
        read_structures(path)


def test_missing_file_and_nothing_to_write(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_structures(tmp_path / "none.extxyz")
    with pytest.raises(UserError, match="no structure to write"):
        write_structures(tmp_path / "a.extxyz", [])


def test_a_file_that_cannot_be_written_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        write_structures(tmp_path / "none" / "a.extxyz", [Atoms("C", cell=[3, 3, 3], pbc=True)])


def test_reference_files_are_in_the_convention():
    assert all(labelled(atoms) for atoms in read_structures(reference_path("ac_nep_dev_gpaw.extxyz")))
    assert not any(labelled(atoms) for atoms in read_structures(reference_path("ac_nep_dev.extxyz")))

"""Structures on disk."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.structures import extxyz
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


@pytest.mark.parametrize(
    "name", ["C.UPF", "a b's.UPF", 'quote".UPF', "back\\slash.UPF", "größe.UPF", "line\nend"]
)
def test_details_of_the_oracle_stay_a_json_text(tmp_path, name):
    atoms = labelled_atoms()
    details = {"fermi_ev": -1.5, "edges_ev": {"0": 285.4}, "stress": [0.1] * 6, "digests": {name: "ab" * 32}}
    atoms.info["oracle_details"] = json.dumps(details)
    for append in (False, True):
        write_structures(tmp_path / "a.extxyz", [atoms], append=append)
    assert json.loads(atoms.info["oracle_details"]) == details
    for back in read_structures(tmp_path / "a.extxyz"):
        assert json.loads(back.info["oracle_details"]) == details
        assert labelled(back)


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


GOOD = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\nC 0 0 0\n'
HEAD = '2\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3\n'


def complaint(path) -> str:
    with pytest.raises(UserError) as caught:
        read_structures(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "permissions" not in str(caught.value)
    assert "None" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("lines", [1, 2, 3, 5])
def test_a_truncated_file_is_one_clear_error(tmp_path, lines):
    path = tmp_path / "a.extxyz"
    write_structures(path, [labelled_atoms(), labelled_atoms()])
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[: 6 + lines]))
    assert f"frame 1: it ends after {max(lines - 2, 0)} of 4 atoms" in complaint(path)


@pytest.mark.parametrize("cut", [30, 300])
def test_a_file_cut_within_an_atom_is_one_clear_error(tmp_path, cut):
    path = tmp_path / "a.extxyz"
    write_structures(path, [labelled_atoms()])
    path.write_text(path.read_text()[:-cut])
    assert "frame 0: its last line is not complete" in complaint(path)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no frame"),
        ("hello\nworld\n", "frame 0: line 1 is 'hello' instead of a number of atoms"),
        (GOOD + HEAD + "C 0 0 0\nC 1 1\n", "frame 1: atom 1 has 3 of 4 columns"),
        (GOOD + HEAD + "C 0 0 0\nC a b c\n" + GOOD, "frame 1: 'a' of atom 1 is not a number"),
        (GOOD + HEAD + "C 0 0 0\nCu1 1 1 1\n", "frame 1: unknown name 'Cu1'"),
        (GOOD + HEAD + "C 0 0 0\n", "frame 1: it ends after 1 of 2 atoms"),
        (GOOD + "\n" + GOOD, "line 4 is empty, and others follow"),
        (GOOD + GOOD.replace("pos:R:3", "pos:Q:3"), "frame 1: Unknown property type: Q"),
    ],
)
def test_malformed_files_name_frame_and_cause(tmp_path, text, cause):
    path = tmp_path / "a.extxyz"
    path.write_text(text)
    assert cause in complaint(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_bytes(GOOD.encode() + HEAD.encode() + b"C 0 0 0\nC \xff 1 1\n")
    assert "frame 1" in complaint(path)


def test_the_last_newline_may_be_missing_and_lines_end_as_elsewhere(tmp_path):
    path = tmp_path / "a.extxyz"
    for text in ((GOOD + GOOD)[:-1], (GOOD + GOOD).replace("\n", "\r\n"), GOOD + GOOD + "\n\n"):
        path.write_bytes(text.encode())
        assert len(read_structures(path)) == 2


def test_the_beginning_of_a_file_alone(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_text(GOOD + HEAD)
    assert len(read_structures(path, size=len(GOOD))) == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.extxyz"
    path.write_text(GOOD)

    def half(target, *arguments, **options):
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(extxyz, "write", half)
    with pytest.raises(UserError, match="No space left"):
        write_structures(path, [labelled_atoms()])
    assert path.read_text() == GOOD
    with pytest.raises(UserError, match="No space left"):
        write_structures(tmp_path / "b.extxyz", [labelled_atoms()], append=True)
    assert [one.name for one in tmp_path.iterdir()] == ["a.extxyz"]


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

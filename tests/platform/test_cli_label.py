"""``nearedge label`` and ``nearedge seeds``: files in, labelled files out, interrupted or not."""

import json

import pytest
from ase.build import bulk
from typer import Typer
from typer.testing import CliRunner

from nearedge.cli.label import label, oracle_settings, parse_settings
from nearedge.cli.seeds import densities, seeds
from nearedge_db.errors import UserError
from nearedge_services.oracles.xtb import XtbOracle
from nearedge_services.structures.extxyz import labelled, read_structures, write_structures


def invoke(command, *arguments):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def inputs(tmp_path):
    frames = []
    for number in range(3):
        atoms = bulk("C", "diamond", 3.567, cubic=True)
        atoms.rattle(0.05, seed=number)
        atoms.info["group"] = f"g{number}"
        frames.append(atoms)
    path = tmp_path / "in.extxyz"
    write_structures(path, frames)
    return path, frames


def count_labels(monkeypatch):
    calls = []
    original = XtbOracle.label
    monkeypatch.setattr(XtbOracle, "label", lambda self, atoms: calls.append(1) or original(self, atoms))
    return calls


def test_labels_every_frame(inputs, tmp_path):
    path, _ = inputs
    output = tmp_path / "out.extxyz"
    result = invoke(label, path, "-o", output, "--set", "sigma_ev=0.5")
    assert result.exit_code == 0, result.output
    frames = read_structures(output)
    assert [atoms.info["group"] for atoms in frames] == ["g0", "g1", "g2"]
    assert all(labelled(atoms) for atoms in frames)
    assert all("fermi_ev" in json.loads(atoms.info["oracle_details"]) for atoms in frames)


def test_continues_where_it_stopped(inputs, tmp_path, monkeypatch):
    path, frames = inputs
    first, output = tmp_path / "first.extxyz", tmp_path / "out.extxyz"
    write_structures(first, frames[:2])
    invoke(label, first, "-o", output)
    calls = count_labels(monkeypatch)
    assert invoke(label, path, "-o", output).exit_code == 0
    assert len(calls) == 1
    assert len(read_structures(output)) == 3


@pytest.mark.parametrize("left", [1, 40, 0.5])
def test_what_was_being_written_is_done_anew(inputs, tmp_path, monkeypatch, left):
    path, _ = inputs
    output = tmp_path / "out.extxyz"
    invoke(label, path, "-o", output)
    whole = output.read_bytes()
    third = whole.rindex(b"\n8\n") + 1
    output.write_bytes(whole[: third + (left if isinstance(left, int) else int(left * (len(whole) - third)))])
    calls = count_labels(monkeypatch)
    result = invoke(label, path, "-o", output)
    assert result.exit_code == 0, result.output
    assert len(calls) == 1
    assert [atoms.info["group"] for atoms in read_structures(output)] == ["g0", "g1", "g2"]
    assert len(read_structures(output)) == 3


def test_a_cut_file_of_other_settings_is_left_alone(inputs, tmp_path):
    path, _ = inputs
    output = tmp_path / "out.extxyz"
    invoke(label, path, "-o", output)
    output.write_bytes(output.read_bytes()[:-20])
    before = output.read_bytes()
    assert isinstance(invoke(label, path, "-o", output, "--set", "sigma_ev=0.5").exception, UserError)
    assert output.read_bytes() == before


def test_a_label_that_could_not_be_written_keeps_its_absorbers(inputs, tmp_path, monkeypatch):
    first, output, work = tmp_path / "first.extxyz", tmp_path / "out.extxyz", tmp_path / "work"
    write_structures(first, [bulk("C", "diamond", 3.567)])
    monkeypatch.setenv("NEAREDGE_WORK", str(work))

    def full(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("nearedge_services.structures.extxyz.write_structures", full)
        assert invoke(label, first, "-o", output, "--set", "core_hole=z+1").exit_code == 1
    (folder,) = work.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["0.npz", "1.npz"]
    assert invoke(label, first, "-o", output, "--set", "core_hole=z+1").exit_code == 0
    assert list(work.iterdir()) == []


def test_the_input_is_not_the_output(inputs, tmp_path):
    path, _ = inputs
    before = path.read_bytes()
    link = tmp_path / "link.extxyz"
    link.symlink_to(path)
    for output in (path, link):
        error = invoke(label, path, "-o", output).exception
        assert "the output is the input" in str(error)
    assert path.read_bytes() == before


def test_refuses_to_mix_settings(inputs, tmp_path):
    path, _ = inputs
    output = tmp_path / "out.extxyz"
    invoke(label, path, "-o", output)
    result = invoke(label, path, "-o", output, "--set", "sigma_ev=0.5")
    assert isinstance(result.exception, UserError)
    assert len(read_structures(output)) == 3


def test_keeps_the_good_frames_when_one_fails(inputs, tmp_path):
    path, frames = inputs
    frames[1].positions[1] = frames[1].positions[0] + 0.1
    write_structures(path, frames)
    output = tmp_path / "out.extxyz"
    result = invoke(label, path, "-o", output)
    assert result.exit_code == 1
    assert "frame 1 failed: BadGeometry" in result.output
    assert "2 of 3" in result.output
    assert len(read_structures(output)) == 2


def test_keeps_the_good_frames_when_the_settings_do_not_fit_one(inputs, tmp_path, monkeypatch):
    path, _ = inputs
    original, calls = XtbOracle.label, []

    def refuse_first(self, atoms):
        calls.append(1)
        if len(calls) == 1:
            raise UserError("the edge lies below the zero", got="270 eV", fix="set zero_ev near 270")
        return original(self, atoms)

    monkeypatch.setattr(XtbOracle, "label", refuse_first)
    output = tmp_path / "out.extxyz"
    result = invoke(label, path, "-o", output)
    assert result.exit_code == 1
    assert "frame 0 failed: UnfitSettings: the edge lies below the zero; got 270 eV" in " ".join(
        result.output.split()
    )
    assert [atoms.info["group"] for atoms in read_structures(output)] == ["g1", "g2"]


def test_keeps_the_good_frames_when_one_fails_in_an_unforeseen_way(inputs, tmp_path, monkeypatch):
    path, _ = inputs
    original, calls = XtbOracle.label, []

    def stumble_once(self, atoms):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("nobody thought of this")
        return original(self, atoms)

    monkeypatch.setattr(XtbOracle, "label", stumble_once)
    output = tmp_path / "out.extxyz"
    result = invoke(label, path, "-o", output)
    assert result.exit_code == 1
    assert "frame 1 failed: OracleCrash: ValueError: nobody thought of this" in " ".join(
        result.output.split()
    )
    assert [atoms.info["group"] for atoms in read_structures(output)] == ["g0", "g2"]


def test_bad_input_is_a_user_error(inputs, tmp_path):
    path, _ = inputs
    output = tmp_path / "out.extxyz"
    for arguments in (
        (tmp_path / "absent.extxyz", "-o", output),
        (path, "-o", output, "--oracle", "magic"),
        (path, "-o", output, "--set", "nonsense=1"),
        (path, "-o", output, "--set", "sigma_ev"),
    ):
        assert isinstance(invoke(label, *arguments).exception, UserError), arguments
    assert not output.exists()


@pytest.mark.parametrize("command", [label, seeds])
def test_an_output_that_cannot_be_written_is_told_before_anything_is_calculated(inputs, tmp_path, command):
    path, _ = inputs
    given = (path,) if command is label else ("--composition", "C8", "--density", "3.0")
    for output in (tmp_path, tmp_path / "none" / "out.extxyz", path / "out.extxyz"):
        error = invoke(command, *given, "-o", output, "--oracle", "never reached").exception
        assert isinstance(error, UserError)
        assert "output" in str(error)


def test_a_negative_seed_is_refused(tmp_path):
    output = tmp_path / "out.extxyz"
    result = invoke(seeds, "--composition", "C8", "--density", "3.0", "--seed", -1, "-o", output)
    assert result.exit_code == 2
    assert not output.exists()


def test_settings_of_a_section_have_a_dot():
    settings = oracle_settings(["sigma_ev=0.5", "run.workers=2", "run.launcher=[mpirun, -np, '2']"])
    assert settings == {"sigma_ev": 0.5, "run": {"workers": 2, "launcher": ["mpirun", "-np", "2"]}}
    for pairs in (["run=1", "run.workers=2"], ["a.b=1", "a.b.c=2"]):
        with pytest.raises(UserError, match="whole and in part"):
            oracle_settings(pairs)


def test_settings_are_read_as_yaml():
    assert parse_settings(["a=1", "b=x", "c=0.5"]) == {"a": 1, "b": "x", "c": 0.5}


def test_densities_spread_evenly():
    assert densities("2.8", 2) == [2.8, 2.8]
    assert densities("1.6:3.4", 3) == [1.6, 2.5, 3.4]
    assert densities("1.6:3.4", 1) == [2.5]
    for text in ("dense", "-1", "1:2:3", "0", "nan", "31", "inf"):
        with pytest.raises(UserError, match="density"):
            densities(text, 1)


def test_seeds_without_labels_go_on_and_repeat(tmp_path):
    one, two = tmp_path / "one.extxyz", tmp_path / "two.extxyz"
    arguments = ("--composition", "C8", "--density", "2:3", "--count", 2, "--seed", 7, "--no-label", "-o")
    for _ in range(2):
        result = invoke(seeds, *arguments, one)
        assert result.exit_code == 0, result.output
    invoke(seeds, *arguments, two)
    assert [atoms.info["seed"] for atoms in read_structures(one)] == [7, 8]
    assert one.read_text() == two.read_text()
    other_density = ("--composition", "C8", "--density", "2.2", "--seed", 7, "--no-label", "-o", one)
    assert invoke(seeds, *other_density).exit_code == 0
    assert [atoms.info["density_g_cm3"] for atoms in read_structures(one)] == [2.0, 3.0, 2.2]


def test_a_seed_that_was_being_written_is_made_anew(tmp_path):
    out = tmp_path / "out.extxyz"
    common = ("--composition", "C8", "--density", "2:3", "--count", 2, "--no-label", "-o", out)
    call = (*common, "--quench-steps", 20)
    invoke(seeds, *call)
    whole = out.read_bytes()
    out.write_bytes(whole[:-30])
    result = invoke(seeds, *call)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == whole


def test_half_a_structure_of_something_else_is_left_alone(inputs, tmp_path):
    path, _ = inputs
    path.write_bytes(path.read_bytes()[:-30])
    before = path.read_bytes()
    error = invoke(seeds, "--composition", "C8", "--density", 3, "--no-label", "-o", path).exception
    assert "no structure of this command" in str(error)
    assert path.read_bytes() == before


def test_seeds_are_labelled(tmp_path):
    output = tmp_path / "seed.extxyz"
    result = invoke(seeds, "--composition", "C8", "--density", "3.0", "--seed", 1, "-o", output)
    assert result.exit_code == 0, result.output
    (atoms,) = read_structures(output)
    assert labelled(atoms)
    assert atoms.info["group"] == "seed-1"

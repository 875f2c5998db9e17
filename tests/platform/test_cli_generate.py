"""``nearedge generate``."""

import numpy as np
import pytest
import typer
from tests.platform.tiny_models import GRID, bump, write_models
from typer.testing import CliRunner

from nearedge.cli.generate import generate, parse_cell, parse_density, parse_indices, parse_sections
from nearedge.generation import Failure, Job, structure_seeds
from nearedge_db.errors import UserError
from nearedge_services.spectra.reading import write_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.extxyz import read_structures, write_structures

app = typer.Typer()
app.command()(generate)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("complete"))


@pytest.fixture(scope="module")
def models(complete, tmp_path_factory):
    """Without the potential, which takes longest to load."""
    folder = tmp_path_factory.mktemp("models")
    for kind in ("prior", "surrogate"):
        (folder / kind).symlink_to(complete / kind)
    return folder


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target.csv"
    write_spectrum(path, Spectrum(GRID.energies, bump(8.0)))
    return path


@pytest.fixture
def sampled(monkeypatch):
    """Indices of the structures that were really made, call after call."""
    made = []
    genuine = Job.run

    def counting(self, skip=()):
        for outcome in genuine(self, skip):
            made.append(outcome.index)
            yield outcome

    monkeypatch.setattr(Job, "run", counting)
    return made


COMMON = ("--composition", "C6", "--count", 3, "--steps", 4)


def test_unguided_structures_are_saved_and_described(models, tmp_path):
    out = tmp_path / "out.extxyz"
    result = run(*COMMON, "--density", "1.6:3.4", "-o", out, "--model", models, "--seed", 5)
    assert result.exit_code == 0
    structures = read_structures(out)
    assert [density_g_cm3(atoms) for atoms in structures] == pytest.approx([1.6, 2.5, 3.4])
    assert [atoms.info["seed"] for atoms in structures] == structure_seeds(5, 3)
    assert "1.60" in result.output
    assert "3 structures in" in result.output
    assert "predicted" not in result.output


def test_guided_structures_carry_their_prediction(models, target, tmp_path):
    free, pulled = tmp_path / "free.extxyz", tmp_path / "pulled.extxyz"
    common = (*COMMON, "--density", 2.6, "--model", models, "--target", target)
    assert "predicted distance" in run(*common, "--guidance", 0, "-o", free).output
    assert run(*common, "--guidance", 50, "-o", pulled).exit_code == 0
    for one, other in zip(read_structures(free), read_structures(pulled), strict=True):
        assert one.info["guidance_scale"] == 0
        assert other.info["guidance_scale"] == 50
        assert other.info["predicted_distance"] > 0
        assert np.abs(one.positions - other.positions).max() > 1e-4


def test_the_seed_decides(models, tmp_path):
    paths = [tmp_path / f"{name}.extxyz" for name in "abc"]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        run(*COMMON, "--density", 2.6, "--model", models, "--seed", seed, "-o", path)
    first, again, other = (read_structures(path)[0].positions for path in paths)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_the_campaigns_champions(models, tmp_path):
    champion = tmp_path / "run" / "models" / "champion"
    champion.parent.mkdir(parents=True)
    champion.symlink_to(models)
    out = tmp_path / "out.extxyz"
    assert run(*COMMON, "--density", 2.6, "--dir", tmp_path / "run", "-o", out).exit_code == 0
    assert len(read_structures(out)) == 3


def test_an_interrupted_output_is_continued(models, tmp_path, sampled):
    whole, part = tmp_path / "whole.extxyz", tmp_path / "part.extxyz"
    call = (*COMMON, "--density", 2.6, "--model", models)
    run(*call, "-o", whole)
    text = whole.read_text()
    third = text.index("\n6\n", text.index("\n6\n") + 1) + 1
    part.write_text(text[: third + 150])  # two frames, and what was written of the third
    sampled.clear()
    result = run(*call, "-o", part)
    assert result.exit_code == 0
    assert "2 structures are in" in result.output
    assert sampled == [2]
    for one, other in zip(read_structures(part), read_structures(whole), strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-5)
    sampled.clear()
    assert "3 structures in" in run(*call, "-o", part).output
    assert sampled == []


def test_a_complete_output_needs_no_table(models, tmp_path):
    out = tmp_path / "out.extxyz"
    call = (*COMMON, "--density", 2.6, "--model", models, "-o", out)
    assert "density" in run(*call).output
    again = run(*call).output
    assert "3 structures are in" in again
    assert "density" not in again


def test_the_error_of_energies_is_told_once(complete, tmp_path):
    out = tmp_path / "out.extxyz"
    output = run(*COMMON, "--density", 2.6, "--model", complete, "-o", out).output
    assert output.count("±") == 1
    (line,) = [line for line in output.splitlines() if "±" in line]
    errors = [atoms.info["predicted_energy_std_per_atom_ev"] for atoms in read_structures(out)]
    assert f"± {np.median(errors):.3f} eV/atom, the potential's typical error on held-out structures" in line
    energies = [atoms.info["predicted_energy_per_atom_ev"] for atoms in read_structures(out)]
    assert all(f"{energy:.3f}" in output for energy in energies)


def test_the_inputs_are_not_the_output(models, target, tmp_path):
    before = target.read_bytes()
    call = (*COMMON, "--density", 2.6, "--model", models, "--target", target)
    with pytest.raises(UserError, match="the output is the input"):
        run(*call, "-o", target)
    assert target.read_bytes() == before


def test_an_output_grows_with_the_count(models, tmp_path, sampled):
    out = tmp_path / "out.extxyz"
    call = ("--composition", "C6", "--steps", 4, "--density", 2.6, "--model", models, "-o", out)
    run(*call, "--count", 1)
    run(*call, "--count", 3)
    assert sampled == [0, 1, 2]
    assert [atoms.info["seed"] for atoms in read_structures(out)] == structure_seeds(0, 3)


@pytest.mark.parametrize("change", [("--seed", 1), ("--steps", 5), ("--density", 2.7), ("--count", 1)])
def test_an_output_of_other_settings_is_left_alone(models, tmp_path, change):
    out = tmp_path / "out.extxyz"
    call = (*COMMON, "--density", 2.6, "--model", models, "-o", out)
    run(*call)
    before = out.read_bytes()
    with pytest.raises(UserError, match="would not make"):
        run(*call, *change)
    assert out.read_bytes() == before
    assert run(*call, *change, "--overwrite").exit_code == 0
    assert len(read_structures(out)) == (1 if "--count" in change else 3)
    assert out.read_bytes() != before


@pytest.mark.parametrize("text", ["notes\n", "12\n", "2\nhalf a frame\nC 0 0 0\n", "4", "\n\n"])
def test_a_file_of_something_else_is_left_alone(models, tmp_path, text):
    out = tmp_path / "out.extxyz"
    out.write_text(text)
    with pytest.raises(UserError, match="something else"):
        run(*COMMON, "--density", 2.6, "--model", models, "-o", out)
    assert out.read_text() == text


def test_foreign_structures_are_left_alone(models, tmp_path):
    out, other = tmp_path / "out.extxyz", tmp_path / "other.extxyz"
    run(*COMMON, "--density", 2.6, "--model", models, "-o", other)
    foreign = read_structures(other)
    for atoms in foreign:
        del atoms.info["recipe"]
    write_structures(out, foreign)
    cut = out.read_bytes()[:-20]
    out.write_bytes(cut)
    with pytest.raises(UserError, match="would not make"):
        run(*COMMON, "--density", 2.6, "--model", models, "-o", out)
    assert out.read_bytes() == cut


def test_failures_are_told_and_the_others_saved(models, tmp_path, monkeypatch):
    genuine = Job.run

    def failing(self, skip=()):
        for outcome in genuine(self, skip):
            yield Failure(1, outcome.atoms.info["seed"], "it broke") if outcome.index == 1 else outcome

    monkeypatch.setattr(Job, "run", failing)
    out = tmp_path / "out.extxyz"
    call = (*COMMON, "--density", 2.6, "--model", models, "-o", out)
    result = run(*call)
    assert result.exit_code == 1
    assert f"structure 1 (seed {structure_seeds(0, 3)[1]}) failed: it broke" in result.output
    assert [atoms.info["index"] for atoms in read_structures(out)] == [0, 2]
    monkeypatch.setattr(Job, "run", genuine)
    assert run(*call).exit_code == 0
    assert sorted(atoms.info["index"] for atoms in read_structures(out)) == [0, 1, 2]


def test_each_structure_is_saved_as_it_comes(models, tmp_path, monkeypatch):
    genuine = Job.run
    out = tmp_path / "out.extxyz"

    def interrupted(self, skip=()):
        for outcome in genuine(self, skip):
            if outcome.index == 2:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(Job, "run", interrupted)
    run(*COMMON, "--density", 2.6, "--model", models, "-o", out)
    assert len(read_structures(out)) == 2


def test_refined_in_a_given_cell(complete, tmp_path):
    out = tmp_path / "out.extxyz"
    settings = [f"refinement.{pair}" for pair in ("first_steps=1", "anneal.steps=2", "final_steps=1")]
    result = run(
        "--atoms", 7, "--cell", "4,5,6", "--refine", "--model", complete, "-o", out, "--count", 1, "--steps", 3,
        *(part for pair in settings for part in ("--set", pair)), "--set", "sampler.churn=0.3",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "energy (eV/atom)  moved (Å)" in result.output
    (atoms,) = read_structures(out)
    assert len(atoms) == 7
    np.testing.assert_allclose(atoms.cell.array, np.diag([4, 5, 6]))
    assert atoms.info["refined"]


def test_around_fixed_atoms(models, tmp_path):
    start, out = tmp_path / "start.extxyz", tmp_path / "out.extxyz"
    run(*COMMON, "--density", 2.6, "--model", models, "--count", 1, "-o", start)
    (given,) = read_structures(start)
    call = ("--start", start, "--fix", "0:2,4", "--count", 2, "--steps", 3, "--model", models, "-o", out)
    assert run(*call).exit_code == 0
    for atoms in read_structures(out):
        np.testing.assert_allclose(atoms.positions[[0, 1, 4]], given.positions[[0, 1, 4]], atol=1e-5)
        assert np.abs(atoms.positions - given.positions).max() > 0.1


WRONG = {
    "both name models": ("--dir", "runs/x"),
    "guidance must be": ("--target", "TARGET", "--guidance", "nan"),
    "guidance needs a spectrum": ("--guidance", 3),
    "no such kind of guidance": ("--guidance-kind", "strong"),
    "does not know these elements; got Si": ("--composition", "Si6"),
    "give a range as 1.6:3.4": ("--density", "1:2:3"),
    "density is not readable": ("--density", "two"),
    "densities do not fill": ("--density", "2.0,2.5"),
    "cell is not readable": ("--cell", "4,4"),
    "contradict each other": ("--cell", "4,4,4", "--atoms", 5),
    "fixed atoms are not readable": ("--fix", "2:1"),
    "fixed atoms need a start": ("--fix", "0:2"),
    "structure file does not exist": ("--start", "no.extxyz", "--fix", "0"),
    "there is no such setting": ("--set", "steps=3"),
    "has no effect": ("--set", "refinement.final_steps=3"),
    "SamplerSettings are wrong at churn": ("--set", "sampler.churn=-1"),
    "folder of the output": ("-o", "no/such/out.extxyz"),
    "absorber is not in the cell": ("--target", "TARGET", "--absorber", "O"),
    "no prior here": ("--model", "nowhere"),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_a_user_gets_wrong(message, models, target, tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "run", None)
    changes = [target if part == "TARGET" else part for part in WRONG[message]]
    if message == "structure file does not exist":
        call = ("--model", models, "-o", tmp_path / "out.extxyz")
    else:
        call = (*COMMON, "--density", 2.6, "--model", models, "-o", tmp_path / "out.extxyz")
    with pytest.raises(UserError, match=message) as caught:
        run(*call, *changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.extxyz").exists()


def test_a_campaign_without_models(tmp_path):
    with pytest.raises(UserError, match="let the campaign train"):
        run(*COMMON, "--density", 2.6, "-o", tmp_path / "o.extxyz", "--dir", tmp_path)


def test_densities():
    assert parse_density("2.6") == 2.6
    assert parse_density("1.6:3.4") == (1.6, 3.4)
    assert parse_density("1.6,2,3") == [1.6, 2.0, 3.0]
    for text in ("two", "", "1:2:3", "1,:2", "1,"):
        with pytest.raises(UserError, match="density"):
            parse_density(text)


def test_cells_indices_and_settings():
    assert parse_cell("4,5,6") == [4, 5, 6]
    assert parse_cell("4,0,0,0,5,0,0,1,6") == [[4, 0, 0], [0, 5, 0], [0, 1, 6]]
    assert parse_indices("0:3,7") == [0, 1, 2, 7]
    assert parse_sections(["sampler.churn=0.3", "refinement.anneal.steps=9"], refine=True) == {
        "sampler": {"churn": 0.3},
        "refinement": {"anneal": {"steps": 9}},
    }
    with pytest.raises(UserError, match="as a whole and in parts"):
        parse_sections(["refinement.anneal=null", "refinement.anneal.steps=9"], refine=True)
    for text in ("a", "1:a", "", "3:1"):
        with pytest.raises(UserError, match="fixed atoms"):
            parse_indices(text)


def test_first_seeds_do_not_depend_on_the_count():
    assert structure_seeds(4, 2) == structure_seeds(4, 5)[:2]
    assert len(set(structure_seeds(4, 50))) == 50

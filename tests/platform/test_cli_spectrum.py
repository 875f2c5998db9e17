"""``nearedge spectrum``."""

import numpy as np
import pytest
import typer
from ase import Atoms
from tests.reference import reference_path
from typer.testing import CliRunner

from nearedge.cli.spectrum import spectrum
from nearedge_db.errors import UserError
from nearedge_services.spectra.reading import read_spectrum
from nearedge_services.structures.extxyz import write_structures

app = typer.Typer()
app.command()(spectrum)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def measured(tmp_path):
    path = tmp_path / "measured.csv"
    energies = np.arange(270.0, 320.0, 0.2)
    values = 0.1 + 1 / (1 + np.exp(-(energies - 285)))
    path.write_text("energy,mu\n" + "".join(f"{e:.2f},{v}\n" for e, v in zip(energies, values, strict=True)))
    return path


def test_transforms_in_the_documented_order(measured, tmp_path):
    out = tmp_path / "out.csv"
    result = run(
        measured,
        "--pre-edge",
        "271,280",
        "--shift",
        -285,
        "--broaden",
        0.5,
        "--cut",
        "-2,28",
        "--normalise",
        "-o",
        out,
    )
    assert result.exit_code == 0
    words = [
        "'energy' as energy",
        "background",
        "shifted by -285",
        "broadened",
        "cut to -2",
        "area-normalised",
    ]
    places = [result.output.index(word) for word in words]
    assert places == sorted(places)
    written = read_spectrum(out)
    assert written.area() == pytest.approx(1.0)
    assert written.range_ev == (pytest.approx(-2), pytest.approx(28))


def test_labelled_structures_give_their_cell_mean(tmp_path):
    out, figure = tmp_path / "t.csv", tmp_path / "t.png"
    source = reference_path("ac_nep_dev_gpaw.extxyz")
    assert run(source, "-o", out, "--plot", figure).exit_code == 0
    assert out.read_text().splitlines()[0] == "energy_eV,intensity"
    mean = read_spectrum(out)
    assert mean.area() == pytest.approx(1.0, rel=1e-6)
    assert figure.read_bytes().startswith(b"\x89PNG")
    run(source, "--frame", 0, "-o", out)
    assert np.abs(read_spectrum(out).intensity - mean.intensity).max() > 1e-3


def test_bad_input_is_one_clear_line(measured, tmp_path):
    for arguments, message in [
        ((tmp_path / "none.csv",), "does not exist"),
        ((measured, "--cut", "5"), "takes two numbers"),
        ((measured, "--cut", "9,5"), "lower energy first"),
        ((measured, "--frame", "0"), "structure files"),
        ((measured, "--plot", tmp_path / "figure.doc"), "unknown format"),
        ((measured, "-o", tmp_path), "is a directory"),
        ((tmp_path / "none.csv", "--plot", tmp_path / "figure.doc"), "unknown format"),
        ((measured, "-o", tmp_path / "none" / "o.csv"), "folder of the output"),
        ((reference_path("ac_nep_dev.extxyz"),), "no spectra"),
        ((reference_path("ac_nep_dev_gpaw.extxyz"), "--absorber", "Si"), "has no Si"),
        ((reference_path("ac_nep_dev_gpaw.extxyz"), "--frame", "14"), "no such frame"),
    ]:
        with pytest.raises(UserError, match=message):
            run(*arguments)


def test_the_measured_file_is_never_overwritten(measured, tmp_path):
    before = measured.read_bytes()
    picture = tmp_path / "figure.png"
    picture.symlink_to(measured)
    for arguments, message in [
        (("-o", measured), "the output is the input"),
        (("-o", tmp_path / "." / measured.name), "the output is the input"),
        (("--plot", picture), "the output is the input"),
        (("-o", tmp_path / "x.png", "--plot", tmp_path / "x.png"), "name the same file"),
    ]:
        with pytest.raises(UserError, match=message):
            run(measured, *arguments)
    assert measured.read_bytes() == before


def test_help_ends_with_an_example():
    assert "Example: nearedge spectrum" in " ".join(run("--help").output.split())


def test_no_mean_over_labels_of_different_oracles(tmp_path):
    frames = []
    for oracle in ("xtb", "gpaw"):
        atoms = Atoms("C2", positions=[[0, 0, 0], [1.4, 0, 0]], cell=[4, 4, 4], pbc=True)
        atoms.info.update(REF_energy=-1.5, xanes_energies=np.linspace(0, 5, 11), oracle=oracle)
        atoms.arrays.update(REF_forces=np.zeros((2, 3)), xanes=np.ones((2, 11)))
        frames.append(atoms)
    path = tmp_path / "mixed.extxyz"
    write_structures(path, frames)
    with pytest.raises(UserError, match="different oracles"):
        run(path)
    assert run(path, "--frame", 1).exit_code == 0

"""``nearedge generate``."""

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from nearedge.cli.generate import check_guidance, generate, parse_densities, structure_seeds
from nearedge_db.errors import UserError
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.reading import write_spectrum
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.extxyz import read_structures
from nearedge_services.surrogate.calibration import Calibration, IntervalScale
from nearedge_services.surrogate.network import SpectrumNetwork
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate

app = typer.Typer()
app.command()(generate)

GRID = EnergyGrid()


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def bump(centre):
    return np.exp(-0.5 * ((GRID.energies - centre) / 4) ** 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    sizes = PriorSettings(n_scalar=16, n_vector=6, n_radial=6, n_layers=1, cutoff_a=3.0)
    Prior(("C",), sizes).save(folder / "prior")
    settings = SurrogateSettings(
        members=2, channels=8, vectors=3, radial=6, layers=1, cutoff_a=3.0, components=2
    )
    network = SpectrumNetwork(settings, 1, GRID.size)
    network.means[0] = torch.as_tensor(bump(12.0))
    network.components[0] = torch.as_tensor(bump(6.0))
    interval = IntervalScale(factor=1.0, floor=1e-3)
    calibration = Calibration(spectrum=interval, distance=interval, excess=0.5, structures=5)
    Surrogate(network, settings, ("C",), ("C",), GRID, calibration).save(folder / "surrogate")
    return folder


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target.csv"
    write_spectrum(path, Spectrum(GRID.energies, bump(8.0)))
    return path


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


def test_an_older_output_is_replaced(models, tmp_path):
    out = tmp_path / "out.extxyz"
    for _ in range(2):
        run(*COMMON, "--density", 2.6, "--model", models, "-o", out)
    assert len(read_structures(out)) == 3


def test_what_a_user_gets_wrong(models, target, tmp_path):
    out = ("-o", tmp_path / "out.extxyz")
    cell = (*COMMON, "--density", 2.6)
    wrong = {
        "no trained model": (*cell, *out),
        "both name models": (*cell, *out, "--model", models, "--dir", tmp_path),
        "no prior here": (*cell, *out, "--model", tmp_path),
        "let the campaign train": (*cell, *out, "--dir", tmp_path),
        "guidance must be": (*cell, *out, "--model", models, "--target", target, "--guidance", "nan"),
        "guidance needs a spectrum": (*cell, *out, "--model", models, "--guidance", 3),
        "does not know these elements; got Si": (
            "--composition",
            "Si4",
            "--density",
            2.6,
            *out,
            "--model",
            models,
        ),
        "the density is out of range": (*COMMON, "--density", "1:2:3", *out, "--model", models),
        "folder of the output": (*cell, "-o", tmp_path / "no" / "out.extxyz", "--model", models),
        "absorber": (*cell, *out, "--model", models, "--target", target, "--absorber", "O"),
    }
    for message, arguments in wrong.items():
        with pytest.raises(UserError, match=message):
            run(*arguments)
    assert not (tmp_path / "out.extxyz").exists()


def test_no_surrogate_for_a_target(models, target, tmp_path):
    (tmp_path / "prior").symlink_to(models / "prior")
    with pytest.raises(UserError, match="no model in this folder"):
        run(*COMMON, "--density", 2.6, "-o", tmp_path / "o.extxyz", "--model", tmp_path, "--target", target)


@pytest.mark.parametrize("guidance", [-1.0, float("nan"), float("inf")])
def test_a_guidance_that_cannot_work(guidance, tmp_path):
    with pytest.raises(UserError, match="zero or more"):
        check_guidance(guidance, tmp_path / "target.csv")


def test_densities():
    assert parse_densities("2.6", 2) == [2.6, 2.6]
    assert parse_densities("2:3", 1) == [2.5]
    assert parse_densities("1.6:3.4", 3) == pytest.approx([1.6, 2.5, 3.4])
    for text in ("two", "0", "-1:2", "nan", ""):
        with pytest.raises(UserError, match="density"):
            parse_densities(text, 1)


def test_first_seeds_do_not_depend_on_the_count():
    assert structure_seeds(4, 2) == structure_seeds(4, 5)[:2]
    assert len(set(structure_seeds(4, 50))) == 50

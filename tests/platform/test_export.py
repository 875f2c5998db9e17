"""The best structures as extended XYZ."""

import json

import numpy as np
import pytest
from tests.platform.synthetic_campaign import GUIDED, Plan, make_campaign
from typer import Typer
from typer.testing import CliRunner

from nearedge.cli.export import export
from nearedge.export import best_structures, export_best
from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.structures.extxyz import labelled, read_structures

app = Typer()
app.command()(export)


@pytest.fixture
def exported(tmp_path):
    database = make_campaign(tmp_path)
    path = tmp_path / "best.extxyz"
    assert export_best(database, "demo", 4, path) == 4
    database.dispose()
    return read_structures(path)


def test_the_best_come_first_and_are_labelled(exported):
    distances = [atoms.info["spectral_distance"] for atoms in exported]
    assert distances == pytest.approx(sorted(GUIDED)[:4])
    assert all(labelled(atoms) for atoms in exported)


def test_provenance_goes_with_every_structure(exported):
    info = exported[0].info
    assert info["oracle"] == "xtb"
    assert len(info["settings_hash"]) == 64
    assert json.loads(info["oracle_details"]) == {"fermi_ev": -5.0}
    assert (info["prior_version"], info["surrogate_version"], info["potential_version"]) == (1, 1, 1)
    assert info["seed"] == 7  # the eighth guided structure of the plan
    assert info["campaign"] == "demo"
    assert info["structure_id"] > 0
    assert info["cn2_fraction"] + info["cn3_fraction"] + info["cn4_fraction"] == pytest.approx(1.0)


def test_the_spectra_written_have_the_distance_stated(exported):
    """The file alone is enough to compute the distance to the target again."""
    from tests.platform.synthetic_campaign import target_spectrum

    from nearedge_services.spectra.distance import spectral_distance

    for atoms in exported:
        mean = atoms.arrays["xanes"].mean(axis=0)
        found = spectral_distance(mean, target_spectrum(), EnergyGrid())
        assert found == pytest.approx(atoms.info["spectral_distance"], rel=1e-4)


def test_density_written_is_that_of_the_cell(exported):
    from nearedge_services.structures.composition import density_g_cm3

    for atoms in exported:
        assert atoms.info["density_g_cm3"] == pytest.approx(density_g_cm3(atoms), rel=1e-6)
        assert np.all(atoms.pbc)


def test_asking_for_more_than_there_are_gives_all(tmp_path):
    database = make_campaign(tmp_path)
    assert len(best_structures(database, "demo", 99)) == len(GUIDED)
    database.dispose()


def test_no_guided_label_is_the_users_error(tmp_path):
    database = make_campaign(tmp_path, Plan(guided=()))
    with pytest.raises(UserError, match="no labelled guided structure"):
        best_structures(database, "demo", 3)
    database.dispose()


def test_command_writes_and_says_how_many(tmp_path):
    make_campaign(tmp_path).dispose()
    path = tmp_path / "out.extxyz"
    result = CliRunner().invoke(app, ["demo", "--best", "2", "-o", str(path), "--dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "wrote 2 structures" in result.output
    assert len(read_structures(path)) == 2


def test_command_names_a_bad_output_before_it_looks_for_the_campaign(tmp_path):
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path), "--dir", str(tmp_path / "none")])
    assert isinstance(result.exception, UserError)
    assert "output is a directory" in str(result.exception)


def test_command_refuses_a_missing_folder(tmp_path):
    make_campaign(tmp_path).dispose()
    output = tmp_path / "no" / "out.extxyz"
    result = CliRunner().invoke(app, ["demo", "-o", str(output), "--dir", str(tmp_path)])
    assert isinstance(result.exception, UserError)

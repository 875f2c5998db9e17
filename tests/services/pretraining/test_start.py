"""What a pretraining takes from earlier models: copied once, recorded, and refused where it does not fit."""

import json
import shutil

import numpy as np
import pytest
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.pretraining.frames import networks
from nearedge_services.pretraining.jobs import KeptNetworks
from nearedge_services.pretraining.pipeline import _claim as claim
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.pretraining.start import (
    START_LIBRARY,
    START_NETWORKS,
    check_start,
    copy_start,
    start_record,
)
from nearedge_services.structures.compact import read_networks, write_networks
from nearedge_services.weights.labels import LabelledBy

CELL_A = 3.567
DIAMOND = Atoms(
    "C8",
    scaled_positions=[
        [x + s, y + s, z + s]
        for x, y, z in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
        for s in (0, 0.25)
    ],
    cell=[CELL_A] * 3,
    pbc=True,
)

RECORD = {"settings": {"unit": "C", "seed": 3}, **LabelledBy.of(make_oracle("xtb", {})).as_record()}


@pytest.fixture
def finished(tmp_path):
    """What a finished pretraining of carbon leaves, as far as a start looks at it."""
    folder = tmp_path / "first"
    (folder / "models" / "potential").mkdir(parents=True)
    for name in ("config.json", "metrics.json", "weights.safetensors"):
        (folder / "models" / "potential" / name).write_text('{"a": 1}')
    write_networks(folder / "models" / "training_networks.npz", [DIAMOND, DIAMOND])
    (folder / "models" / "library.npz").write_bytes(b"library")
    (folder / "pretraining.json").write_text(json.dumps(RECORD))
    return folder


def test_potential_networks_and_record_are_copied(tmp_path, finished):
    """And the folder knows its start again, and no other."""
    folder = tmp_path / "second"
    assert start_record(folder) is None
    copy_start(finished, folder, PretrainingSettings())
    assert (folder / "models" / "potential" / "config.json").read_text() == '{"a": 1}'
    assert (folder / START_LIBRARY).read_bytes() == b"library"
    assert len(read_networks(folder / START_NETWORKS)) == 2
    assert start_record(folder) == RECORD
    check_start(folder, finished)
    with pytest.raises(UserError, match="begun from earlier models"):
        check_start(folder, None)
    (finished / "models" / "library.npz").write_bytes(b"another")
    with pytest.raises(UserError, match="another start"):
        check_start(folder, finished)


def test_a_folder_is_claimed_once_for_its_start(tmp_path, finished):
    """Also when the copying was interrupted: what is missing is copied then."""
    folder, settings = tmp_path / "second", PretrainingSettings()
    copy_start(finished, folder, settings)
    (folder / START_LIBRARY).unlink()
    with pytest.raises(UserError, match="begun from earlier models"):
        claim(folder, settings, None)
    claim(folder, settings, finished)
    assert (folder / START_LIBRARY).exists()
    claim(folder, settings, finished)
    with pytest.raises(UserError, match="begun from earlier models"):
        claim(folder, settings.model_copy(update={"seed": 1}), None)
    with pytest.raises(UserError, match="other settings"):
        claim(folder, settings.model_copy(update={"seed": 1}), finished)
    claim(tmp_path / "nothing", settings, None)
    with pytest.raises(UserError, match="another start"):
        claim(tmp_path / "nothing", settings, finished)


def test_a_folder_of_an_earlier_version_goes_on(tmp_path):
    """Settings that came since were as their defaults are."""
    settings, file = PretrainingSettings(), tmp_path / "settings.json"
    stored = settings.model_dump(mode="json")
    del stored["refined"]
    file.write_text(json.dumps(stored))
    claim(tmp_path, settings, None)
    file.write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"other settings.*refined"):
        claim(tmp_path, settings.model_copy(update={"refined": 3}), None)


def test_shipped_models_are_a_start_too(tmp_path, finished):
    """They lie beside their record."""
    flat = tmp_path / "shipped"
    (finished / "models").rename(flat)
    (finished / "pretraining.json").rename(flat / "pretraining.json")
    copy_start(flat, tmp_path / "second", PretrainingSettings())
    assert (tmp_path / "second" / "models" / "potential" / "config.json").exists()


@pytest.mark.parametrize(
    "name",
    [
        "pretraining.json",
        "models/potential/config.json",
        "models/training_networks.npz",
        "models/library.npz",
    ],
)
def test_an_unfinished_start_is_refused(tmp_path, finished, name):
    """Before anything is copied; the message names the file."""
    (finished / name).unlink()
    with pytest.raises(UserError, match=r"no models to start from.*" + name.rsplit("/", 1)[-1]):
        copy_start(finished, tmp_path / "second", PretrainingSettings())
    assert not (tmp_path / "second").exists()


def test_only_a_new_potential_needs_the_other_models(tmp_path, finished):
    """It keeps them, and their files; the start's potential is where quenches look for it."""
    settings = PretrainingSettings(renews="potential")
    with pytest.raises(UserError, match=r"no models to start from.*prior"):
        copy_start(finished, tmp_path / "second", settings)
    for kind in ("prior", "surrogate"):
        shutil.copytree(finished / "models" / "potential", finished / "models" / kind)
    copy_start(finished, tmp_path / "second", settings)
    models = tmp_path / "second" / "models"
    assert sorted(path.name for path in models.iterdir()) == [
        "library.npz",
        "prior",
        "surrogate",
        "training_networks.npz",
    ]
    assert (tmp_path / "second" / "potential-0" / "config.json").exists()


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_record_is_named(tmp_path, finished, text):
    (finished / "pretraining.json").write_text(text)
    with pytest.raises(UserError, match="damaged"):
        copy_start(finished, tmp_path / "second", PretrainingSettings())


def test_models_of_a_pretraining_are_found_as_a_start(tmp_path, finished):
    """Their record lies one folder above."""
    copy_start(finished / "models", tmp_path / "second", PretrainingSettings())
    assert start_record(tmp_path / "second") == RECORD


def test_a_start_by_another_oracle_is_refused(tmp_path, finished):
    settings = PretrainingSettings(oracle_settings={"sigma_ev": 0.9})
    with pytest.raises(UserError, match="another oracle"):
        copy_start(finished, tmp_path / "second", settings)
    assert not (tmp_path / "second").exists()


def test_a_start_of_another_material_is_refused(tmp_path, finished):
    with pytest.raises(UserError, match="another material"):
        copy_start(finished, tmp_path / "second", PretrainingSettings(unit="Si"))


def test_kept_networks_are_labelled_with_rattled_copies(tmp_path):
    """The chosen rows only; density and group are theirs, and the network itself is marked."""
    write_networks(tmp_path / START_NETWORKS, [Atoms("C", cell=[9] * 3, pbc=True), DIAMOND])
    settings = PretrainingSettings(rattle_a=(0.05,))
    frames = KeptNetworks(tmp_path / "a.extxyz", settings, tmp_path / START_NETWORKS, (1,)).make()
    assert [atoms.info["group"] for atoms in frames] == ["kept-1"] * 2
    assert frames[0].info["density_g_cm3"] == pytest.approx(3.516, abs=0.01)
    assert networks(frames) == frames[1:]
    rattled, still = (make_oracle("xtb", {}).label(atoms) for atoms in frames)
    assert frames[1].info["REF_energy"] == pytest.approx(still.energy_ev, abs=1e-6)
    assert np.abs(frames[0].positions - frames[1].positions).std() > 0.01
    assert rattled.energy_ev > still.energy_ev


def test_networks_are_made_anew_in_a_band_within_the_range_of_densities():
    settings = PretrainingSettings(density_g_cm3=(1.4, 3.6), anew_g_cm3=(1.4, 1.85))
    assert [settings.anew(d) for d in (1.39999999, 1.85000001, 1.86, 3.0)] == [True, True, False, False]
    assert [settings.kept(d) for d in (1.3, 1.4, 1.86, 3.0, 3.7)] == [False, False, True, True, False]
    assert not PretrainingSettings(density_g_cm3=(2.0, 3.0)).kept(1.5)
    assert PretrainingSettings().anew(3.0)
    densities = settings.densities(20, 0.5, settings.anew_g_cm3)
    assert min(densities) == pytest.approx(1.4, abs=0.05)
    assert max(densities) == pytest.approx(1.85, abs=0.05)
    assert all(settings.anew(density) for density in densities)
    with pytest.raises(ValueError, match="within density_g_cm3"):
        PretrainingSettings(density_g_cm3=(2.0, 3.0), anew_g_cm3=(1.4, 2.5))

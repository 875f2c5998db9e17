"""Model weights as bytes: out of one folder, into another process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from nearedge_agents.agent import Agent
from nearedge_agents.kinds import make_kind
from nearedge_agents.models import ModelCache, ModelFiles
from nearedge_agents.targets import load_target, store_target
from nearedge_db.store import get_campaign
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.diffusion.training import train_prior
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target


@pytest.fixture(scope="module")
def prior() -> Prior:
    """One of next to no training."""
    cells = []
    for index in range(3):
        atoms = bulk("C", "diamond", 3.57, cubic=True)
        atoms.rattle(0.05, seed=index)
        atoms.info.update(REF_energy=-100.0, group=str(index))
        cells.append(atoms)
    torch.set_num_threads(1)
    settings = PriorSettings(steps=2, n_scalar=8, n_vector=4, n_layers=1)
    return train_prior(cells[:2], cells[2:], settings, 0)[0]


def weights(model: Prior, folder) -> bytes:
    model.save(folder)
    return (folder / "weights.safetensors").read_bytes()


def test_a_model_survives_the_way_through_bytes(prior, tmp_path):
    prior.save(tmp_path / "saved")
    files = ModelFiles.read("prior", 7, tmp_path / "saved")
    assert set(files.files) >= {"weights.safetensors", "config.json"}
    loaded = ModelCache().get(files)
    assert weights(loaded, tmp_path / "again") == files.files["weights.safetensors"]


def test_the_newest_version_is_loaded_once(prior, tmp_path):
    prior.save(tmp_path / "saved")
    first = ModelFiles.read("prior", 1, tmp_path / "saved")
    second = ModelFiles.read("prior", 2, tmp_path / "saved")
    cache = ModelCache()
    loaded = cache.get(first)
    assert cache.get(first) is loaded
    assert cache.get(second) is not loaded


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError):
        ModelFiles.read("prior", 1, tmp_path)


def test_the_three_kinds_have_one_shape():
    for name in ("prior", "surrogate", "potential"):
        kind = make_kind(name)
        assert kind.name == name
        assert kind.settings.model_config["extra"] == "forbid"
        assert kind.headline
    with pytest.raises(ValueError, match="unknown model kind"):
        make_kind("oracle")


def test_a_target_survives_the_database(database):
    grid = EnergyGrid()
    spectrum = Spectrum(grid.energies, 1.0 + np.exp(-0.1 * (grid.energies - 10.0) ** 2), ("measured",))
    target = Target.from_spectrum(spectrum, grid, "C", (0.0, 20.0))
    with database.begin() as session:
        assert load_target(get_campaign(session, 1)) is None
        store_target(session, 1, target)
    with database.session() as session:
        loaded = load_target(get_campaign(session, 1))
    np.testing.assert_array_equal(loaded.intensity, target.intensity)
    np.testing.assert_array_equal(loaded.mask, target.mask)
    assert (loaded.grid, loaded.absorber, loaded.window_ev) == (grid, "C", (0.0, 20.0))
    assert loaded.history == target.history


def test_what_a_killed_process_left_is_removed_when_an_actor_starts(tmp_path, monkeypatch):
    """A living process keeps its folders."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = (
        "import sys, tempfile, time; from nearedge_services.oracles.external import scratch_prefix\n"
        "print(tempfile.mkdtemp(prefix=scratch_prefix('model'), dir=sys.argv[1]), flush=True)\n"
        "time.sleep(60)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as other:
        folder = Path(other.stdout.readline().strip())
        (folder / "weights").write_text("half")
        Agent()
        assert folder.exists()
        other.kill()
        other.wait()
        Agent()
        assert not folder.exists()

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation

from nearedge_db.errors import UserError
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.networks.graph import mean_by_structure

SMALL = PriorSettings(n_scalar=16, n_vector=6, n_radial=6, n_layers=2, cutoff_a=3.5)


def small_prior(elements=("C", "Si")):
    torch.manual_seed(1)
    return Prior(elements, SMALL).double()


@pytest.fixture
def atoms():
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True)
    atoms.rattle(0.2, seed=0)
    return atoms


def denoise(prior, atoms, sigma=0.2):
    batch = prior.batch([atoms])
    with torch.no_grad():
        return prior.denoise(batch, batch.positions.new_tensor([sigma])).numpy()


def test_denoiser_turns_with_the_structure(atoms):
    prior = small_prior()
    turn = -Rotation.random(rng=0).as_matrix()
    turned = Atoms(
        atoms.numbers, positions=atoms.positions @ turn.T, cell=atoms.cell.array @ turn.T, pbc=True
    )
    np.testing.assert_allclose(denoise(prior, turned), denoise(prior, atoms) @ turn.T, atol=1e-9)


def test_denoiser_moves_with_the_structure(atoms):
    moved = atoms.copy()
    moved.positions += [0.3, 5.0, -7.0]
    difference = denoise(small_prior(), moved) - denoise(small_prior(), atoms)
    np.testing.assert_allclose(difference, np.tile([0.3, 5.0, -7.0], (8, 1)), atol=1e-9)


def test_structure_as_a_whole_does_not_drift(atoms):
    prior = small_prior()
    batch = prior.batch([atoms, atoms * (2, 1, 1)])
    sigma = batch.positions.new_tensor([0.1, 0.5])
    drift = mean_by_structure(prior.direction(batch, sigma), batch)
    torch.testing.assert_close(drift, torch.zeros_like(drift))


def test_step_is_sigma_times_direction(atoms):
    prior = small_prior()
    batch = prior.batch([atoms, atoms])
    sigma = batch.positions.new_tensor([0.1, 0.5])
    steps = (prior.denoise(batch, sigma) - batch.positions) / sigma[batch.structure, None]
    torch.testing.assert_close(steps, prior.direction(batch, sigma))


def test_round_trip(tmp_path, atoms):
    prior = small_prior()
    prior.save(tmp_path)
    loaded = Prior.load(tmp_path).double()
    assert loaded.elements == ("C", "Si")
    assert loaded.settings == SMALL
    np.testing.assert_allclose(denoise(loaded, atoms), denoise(prior, atoms), atol=1e-6)


def test_load_refuses_other_and_damaged_models(tmp_path):
    with pytest.raises(UserError, match="no model"):
        Prior.load(tmp_path)
    small_prior().save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"kind": "surrogate"}), encoding="utf-8")
    with pytest.raises(UserError, match="another kind"):
        Prior.load(tmp_path)
    path.write_text(json.dumps(config | {"settings": {"layers": 3}}), encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        Prior.load(tmp_path)


def test_unknown_element(atoms):
    with pytest.raises(UserError, match="Si"):
        small_prior(("C",)).batch([atoms])

import math

import numpy as np
import pytest
import torch
from ase.build import bulk
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.diffusion.evaluation import evaluate_prior
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import empty_cells, sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.diffusion.training import train_prior
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_fractions, shortest_contact
from nearedge_services.structures.extxyz import read_structures

SMALL = PriorSettings(
    n_scalar=32,
    n_vector=12,
    n_radial=10,
    n_layers=2,
    cutoff_a=3.5,
    steps=200,
    atoms_per_step=24,
    learning_rate=6e-3,
    ema=0.97,
)


def diamonds(count, seed):
    cells = []
    for k in range(count):
        atoms = bulk("C", cubic=True)
        atoms.rattle(0.04, seed=seed + k)
        cells.append(atoms)
    return cells


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return train_prior(diamonds(8, 0), diamonds(4, 100), SMALL, seed=0)


def test_training_lowers_the_held_out_loss(trained):
    prior, metrics = trained
    held_out = diamonds(4, 100)
    untrained = train_prior(diamonds(1, 0), [], SMALL.model_copy(update={"steps": 1}), seed=0)[0]
    before = evaluate_prior(untrained, held_out)[Prior.HEADLINE]
    assert before == pytest.approx(3.0, abs=1.0)
    assert metrics[Prior.HEADLINE] < 0.5 * before
    assert evaluate_prior(prior, held_out)[Prior.HEADLINE] == metrics[Prior.HEADLINE]


def test_denoising_goes_back_to_diamond(trained):
    crystal = bulk("C", cubic=True)
    ratios = []
    for seed in range(4):
        noisy = crystal.copy()
        noisy.rattle(0.2, seed=90 + seed)
        with torch.no_grad():
            denoised = trained[0].denoise(trained[0].batch([noisy]), torch.tensor([0.2])).numpy()
        before, after = (positions - crystal.positions for positions in (noisy.positions, denoised))
        ratios.append((after - after.mean(0)).std() / (before - before.mean(0)).std())
    assert np.mean(ratios) < 0.7


@pytest.mark.slow
def test_generates_carbon_networks():
    frames = read_structures(reference_path("ac_nep_dev.extxyz"))
    prior = train_prior(frames, [], PriorSettings(steps=300), seed=0)[0]
    cells = empty_cells(parse_composition("C64"), [2.0, 2.5, 3.0])
    structures = sample(prior, cells, SamplerSettings(), seeds=[0, 1, 2])
    assert min(shortest_contact(atoms) for atoms in structures) > 1.0
    shares = [coordination_fractions(atoms) for atoms in structures]
    assert all(share.get(3, 0.0) + share.get(4, 0.0) > 0.6 for share in shares)
    assert shares[0].get(4, 0.0) + 0.1 < shares[2].get(4, 0.0)


def test_the_seed_decides():
    settings = SMALL.model_copy(update={"steps": 5})
    runs = [train_prior(diamonds(2, 0), [], settings, seed=seed)[0] for seed in (3, 3, 4)]
    states = [run.gate[0].weight for run in runs]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train_prior(diamonds(1, 0), [], SMALL.model_copy(update={"steps": 1}), seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_warm_start_goes_on_and_leaves_the_first_prior_alone(trained):
    prior, metrics = trained
    before = prior.gate[0].weight.clone()
    settings = SMALL.model_copy(update={"steps": 10})
    continued, warm = train_prior(diamonds(8, 0), diamonds(4, 100), settings, seed=1, initial=prior)
    assert warm[Prior.HEADLINE] < metrics[Prior.HEADLINE] + 0.2
    assert torch.equal(prior.gate[0].weight, before)
    assert not torch.equal(continued.gate[0].weight, before)


def test_warm_start_needs_the_same_network(trained):
    with pytest.raises(UserError, match="other sizes"):
        train_prior(diamonds(1, 0), [], SMALL.model_copy(update={"n_layers": 1}), seed=0, initial=trained[0])
    with pytest.raises(UserError, match="Si"):
        train_prior([bulk("Si", cubic=True)], [], SMALL, seed=0, initial=trained[0])


def test_progress_is_told():
    told = []
    settings = SMALL.model_copy(update={"steps": 100})
    train_prior(
        diamonds(1, 0), [], settings, seed=0, progress=lambda share, values: told.append((share, values))
    )
    assert [share for share, _ in told] == [0.5, 1.0]
    assert all(math.isfinite(values["training_loss"]) for _, values in told)


def test_unusable_data():
    broken = bulk("C", cubic=True)
    broken.positions[0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        train_prior([broken], [], SMALL, seed=0)
    with pytest.raises(UserError, match="nothing to train"):
        train_prior([], [], SMALL, seed=0)


def test_a_loss_that_is_not_finite_stops_the_training(trained):
    broken = Prior(("C",), SMALL)
    broken.load_state_dict(trained[0].state_dict())
    broken.gate[0].weight.data[:] = float("nan")
    with pytest.raises(FloatingPointError, match="step 0"):
        train_prior(diamonds(1, 0), [], SMALL, seed=0, initial=broken)
    with pytest.raises(FloatingPointError, match="finite"):
        evaluate_prior(broken, diamonds(1, 0))


def test_evaluation_uses_the_same_noise_every_time(trained):
    assert evaluate_prior(trained[0], diamonds(3, 7)) == evaluate_prior(trained[0], diamonds(3, 7))

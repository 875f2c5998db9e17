import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from scipy.spatial.transform import Rotation
from tests.services.diffusion.spectra import GRID, labelled, networks, peak

from nearedge_db.errors import UserError
from nearedge_services.diffusion.condition import (
    LARGEST_AMOUNT,
    ConditionSpace,
    SpectrumCondition,
    condition_space,
    condition_spectra,
)
from nearedge_services.diffusion.evaluation import evaluate_prior
from nearedge_services.diffusion.prior import N_CONDITIONS, Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.diffusion.training import train_prior
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

SPACE = ConditionSpace(GRID, "C")
SMALL = PriorSettings(
    n_scalar=16,
    n_vector=6,
    n_radial=8,
    n_layers=2,
    cutoff_a=3.0,
    steps=250,
    atoms_per_step=32,
    learning_rate=1e-2,
    ema=0.97,
    sigma_median_a=0.35,
    spectrum_components=2,
)


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    return train_prior(networks(8, 0), networks(6, 50), SMALL, seed=0)


@pytest.fixture
def fitted():
    condition = SpectrumCondition(SPACE, 3).double()
    rng = np.random.default_rng(0)
    spectra = np.array([peak(centre) for centre in rng.uniform(3, 7, 40)])
    condition.fit(spectra, np.ones(40))
    return condition, torch.as_tensor(spectra)


def told(prior, centre, atoms, sigma=0.3):
    batch = prior.batch([atoms])
    spectrum = None if centre is None else torch.as_tensor(peak(centre))[None]
    with torch.no_grad():
        return prior.denoise(batch, batch.positions.new_tensor([sigma]), spectrum).double().numpy()


def test_amounts_are_centred_and_of_unit_spread(fitted):
    condition, spectra = fitted
    deviation = spectra - condition.mean
    amounts = deviation @ condition.components.T / condition.components.square().sum(-1)
    np.testing.assert_allclose(amounts.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(amounts.square().mean(0), 1, atol=0.05)
    rebuilt = condition.mean + amounts @ condition.components
    assert (rebuilt - spectra).std() < 0.15 * deviation.std()


def test_conditions_flag_what_has_no_spectrum(fitted):
    condition, spectra = fitted
    nothing = torch.full((1, GRID.size), torch.nan, dtype=torch.float64)
    conditions = condition(torch.cat([spectra[:2], nothing]))
    assert conditions.shape == (3, condition.size) == (3, 4)
    assert conditions[:, -1].tolist() == [1, 1, 0]
    assert (conditions[2] == 0).all()
    far = condition(spectra[:1] * 1e3)
    assert far[:, :-1].abs().max() <= LARGEST_AMOUNT


def test_weights_decide_the_mean():
    condition = SpectrumCondition(SPACE, 1).double()
    condition.fit(np.array([peak(3), peak(7), peak(5)]), np.array([3.0, 1.0, 0.0]))
    np.testing.assert_allclose(condition.mean, 0.75 * peak(3) + 0.25 * peak(7), atol=1e-7)


def test_a_target_over_the_whole_grid_is_the_spectrum(fitted):
    condition, _ = fitted
    target = Target.from_spectrum(Spectrum(GRID.energies, peak(5)), GRID, "C")
    np.testing.assert_allclose(condition.of_target(target), peak(5), atol=1e-9)


def test_a_target_in_a_window_is_completed(fitted):
    condition, spectra = fitted
    truth = spectra[7].numpy()
    target = Target.from_spectrum(Spectrum(GRID.energies, truth), GRID, "C", window_ev=(1.0, 7.0))
    completed = condition.of_target(target).numpy()
    spread = np.sqrt(np.mean((spectra.numpy() - spectra.numpy().mean(0)) ** 2))
    assert np.sqrt(np.mean((completed - truth) ** 2)) < 0.35 * spread


def test_a_target_of_other_spectra_is_refused(fitted):
    other = EnergyGrid(0.0, 12.0, 0.5)
    target = Target.from_spectrum(Spectrum(other.energies, np.ones(other.size)), other, "C")
    with pytest.raises(UserError, match="other spectra"):
        fitted[0].of_target(target)


def test_the_space_of_frames():
    frames = [bulk("C"), labelled(bulk("C"), 4.0)]
    assert condition_space(frames, None) == SPACE
    with pytest.raises(UserError, match="no spectra"):
        condition_space(frames, "Si")
    with pytest.raises(UserError, match="needs structures with spectra"):
        condition_space(frames[:1], None)
    both = labelled(bulk("SiC", "zincblende", a=4.36), 4.0)
    with pytest.raises(UserError, match="which element"):
        condition_space([both], None)
    assert condition_space([both], "Si").absorber == "Si"
    both.arrays["xanes"][0] = 0
    assert condition_space([both], None).absorber == "C"


def test_spectra_of_frames():
    part = labelled(bulk("C", cubic=True), 4.0)
    part.arrays["xanes"][3] = np.nan
    spectra = condition_spectra([bulk("C"), labelled(bulk("C"), 4.0), part], SPACE)
    np.testing.assert_allclose(spectra[1], peak(4), atol=1e-9)
    assert np.isnan(spectra[[0, 2]]).all()


def test_no_spectrum_is_the_null_condition(trained):
    atoms = networks(1, 90)[0]
    prior = trained[0]
    batch = prior.batch([atoms, atoms])
    sigma = batch.positions.new_tensor([0.3, 0.3])
    rows = torch.stack([torch.full((GRID.size,), torch.nan), torch.as_tensor(peak(3)).float()])
    with torch.no_grad():
        unconditional = prior.denoise(batch, sigma)
        mixed = prior.denoise(batch, sigma, rows)
    torch.testing.assert_close(mixed[: len(atoms)], unconditional[: len(atoms)])
    assert (mixed[len(atoms) :] - unconditional[len(atoms) :]).abs().max() > 1e-3


def test_an_untrained_condition_changes_nothing():
    prior = Prior(("C",), SMALL, SPACE)
    atoms = bulk("C", cubic=True)
    np.testing.assert_array_equal(told(prior, 3.0, atoms), told(prior, None, atoms))


def test_what_it_is_told_helps(trained):
    prior, metrics = trained
    assert metrics["denoising_loss_conditional"] < 0.99 * metrics["denoising_loss"]
    rng = np.random.default_rng(0)
    errors = {"right": 0.0, "wrong": 0.0}
    for atoms, own in zip(networks(12, 70), [3.0, 7.0] * 6, strict=True):
        noise = rng.normal(scale=0.3, size=(8, 3))
        noisy = atoms.copy()
        noisy.positions += noise - noise.mean(0)
        errors["right"] += np.square(told(prior, own, noisy) - atoms.positions).mean()
        errors["wrong"] += np.square(told(prior, 10.0 - own, noisy) - atoms.positions).mean()
    assert errors["right"] < 0.85 * errors["wrong"]


def test_a_conditional_denoiser_turns_with_the_structure(trained):
    prior = Prior(("C",), SMALL, SPACE)
    prior.load_state_dict(trained[0].state_dict())
    prior = prior.double()
    atoms = networks(1, 30)[0]
    atoms.rattle(0.1, seed=2)
    turn = -Rotation.random(rng=0).as_matrix()
    turned = Atoms(
        atoms.numbers, positions=atoms.positions @ turn.T, cell=atoms.cell.array @ turn.T, pbc=True
    )
    np.testing.assert_allclose(told(prior, 3.0, turned), told(prior, 3.0, atoms) @ turn.T, atol=1e-9)
    moved = atoms.copy()
    moved.positions += [0.2, 9.0, -3.0]
    difference = told(prior, 3.0, moved) - told(prior, 3.0, atoms)
    np.testing.assert_allclose(difference, np.tile([0.2, 9.0, -3.0], (len(atoms), 1)), atol=1e-9)


def test_round_trip(tmp_path, trained):
    prior = trained[0]
    prior.save(tmp_path)
    loaded = Prior.load(tmp_path)
    assert loaded.condition.space == SPACE
    assert loaded.grid == GRID
    atoms = networks(1, 30)[0]
    np.testing.assert_array_equal(told(loaded, 3.0, atoms), told(prior, 3.0, atoms))


def test_a_prior_saved_before_there_were_conditions_still_loads(tmp_path):
    plain = SMALL.model_copy(update={"spectrum_components": 0})
    prior = Prior(("C",), plain)
    prior.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("condition")
    config["settings"] = {k: v for k, v in config["settings"].items() if not k.startswith("spectrum_")}
    path.write_text(json.dumps(config), encoding="utf-8")
    loaded = Prior.load(tmp_path)
    assert loaded.grid is None
    assert loaded.backbone.config.n_conditions == N_CONDITIONS
    atoms = bulk("C", cubic=True)
    np.testing.assert_array_equal(told(loaded, None, atoms), told(prior, None, atoms))
    with pytest.raises(UserError, match="without a condition"):
        told(loaded, 3.0, atoms)


def test_damaged_condition_is_refused(tmp_path, trained):
    trained[0].save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"condition": {"absorber": "C"}}), encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        Prior.load(tmp_path)


def test_frames_without_spectra_train_too():
    frames = [*networks(4, 0), bulk("C", cubic=True)]
    settings = SMALL.model_copy(update={"steps": 3})
    prior, metrics = train_prior(frames, [bulk("C", cubic=True)], settings, seed=0)
    assert prior.condition is not None
    assert "denoising_loss" in metrics
    assert "denoising_loss_conditional" not in metrics
    with pytest.raises(UserError, match="needs structures with spectra"):
        train_prior([bulk("C", cubic=True)], [], settings, seed=0)
    with pytest.raises(UserError, match="at least two"):
        train_prior(frames[:1], [], settings, seed=0)


def test_a_warm_start_keeps_the_components(trained):
    settings = SMALL.model_copy(update={"steps": 2})
    frames = networks(2, 40)
    continued = train_prior(frames, [], settings, seed=0, initial=trained[0])[0]
    assert torch.equal(continued.condition.components, trained[0].condition.components)
    unlabelled = train_prior([bulk("C", cubic=True)], [], settings, seed=0, initial=trained[0])[0]
    assert torch.equal(unlabelled.condition.mean, trained[0].condition.mean)
    for atoms in frames:
        atoms.info["xanes_energies"] = GRID.energies + 1
        atoms.arrays["xanes"] = atoms.arrays["xanes"][:, ::-1] ** 2
    moved = train_prior(frames, [], settings, seed=0, initial=trained[0])[0]
    assert moved.grid.start_ev == 1.0
    assert not torch.equal(moved.condition.mean, trained[0].condition.mean)


def test_evaluation_does_not_tell_the_spectrum(trained):
    frames = networks(4, 50)
    bare = [bulk("C", cubic=True) for _ in frames]
    for atoms, frame in zip(bare, frames, strict=True):
        atoms.positions = frame.positions
    with_spectra, without = evaluate_prior(trained[0], frames), evaluate_prior(trained[0], bare)
    assert with_spectra["denoising_loss"] == without["denoising_loss"]

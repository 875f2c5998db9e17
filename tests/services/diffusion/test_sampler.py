from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.diffusion.toys import FirstAxis, GaussianSites

from nearedge_db.errors import UserError
from nearedge_services.diffusion.guidance import SpectrumGuidance
from nearedge_services.diffusion.noise import sampling_sigmas
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import SamplingError, freeze_sigma, sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.diffusion.starts import empty_cells
from nearedge_services.structures.composition import parse_composition

CENTRE = [4.0, 4.0, 4.0]
SETTINGS = SamplerSettings(freeze_sigma=0.15)


def cell(count, element="C"):
    return Atoms(f"{element}{count}", positions=np.zeros((count, 3)), cell=[8.0] * 3, pbc=True)


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    prior = Prior(
        ("C",), PriorSettings(n_scalar=16, n_vector=6, n_radial=6, n_layers=2, cutoff_a=3.5)
    ).double()
    with torch.no_grad():
        prior.gate[-1].weight.mul_(3)
    return prior


def spread_after_the_walk(settings, width):
    """Standard deviation of one coordinate that the walk gives for a Gaussian of that width, exactly."""
    variance = settings.start_jitter_a**2
    for sigma, following in pairwise(sampling_sigmas(settings)):
        active = settings.churn_min < sigma < settings.churn_max
        raised = sigma * (1 + settings.churn * active)
        noise = settings.churn_noise if sigma > settings.freeze_sigma else settings.cold_noise
        rest = min(noise, 1.0) if settings.rest is None else settings.rest
        variance += noise**2 * (raised**2 - sigma**2)
        shrink = width**2 / (width**2 + raised**2)
        variance *= (shrink + rest * following / raised * (1 - shrink)) ** 2
    return variance**0.5


@pytest.mark.parametrize("start", ["lattice-jitter", "uniform"])
@pytest.mark.parametrize("width", [0.1, 0.3])
def test_fine_steps_sample_an_exact_gaussian(width, start):
    settings = SamplerSettings(
        start=start,
        steps=500,
        sigma_max=0.9,
        churn=0.04,
        churn_noise=1.0,
        cold_noise=1.0,
        rest=1.0,
        sigma_min=0.005,
    )
    structure = sample(GaussianSites(CENTRE, width), [cell(1500)], settings, [0])[0]
    deviations = structure.positions - CENTRE
    assert deviations.std() == pytest.approx(width, rel=0.06)
    assert abs(deviations.mean()) < 0.1 * width


@pytest.mark.parametrize(
    ("churn_noise", "cold_noise", "rest"),
    [(0.5, 0.5, 1.0), (1.0, 1.0, 1.0), (1.0, 0.4, 0.5), (1.0, 1.0, 0.0), (0.5, 0.7, None), (1.1, 0.3, None)],
)
@pytest.mark.parametrize("width", [0.1, 0.3])
def test_the_walk_is_the_one_documented(width, churn_noise, cold_noise, rest):
    update = {"churn_noise": churn_noise, "cold_noise": cold_noise, "freeze_sigma": 0.15, "rest": rest}
    settings = SETTINGS.model_copy(update=update)
    structure = sample(GaussianSites(CENTRE, width), [cell(1500)], settings, [0])[0]
    spread = spread_after_the_walk(settings, width)
    # coarse steps with much churn come out narrow: that is what is wanted
    assert 0.05 * width < spread < width
    assert (structure.positions - CENTRE).std() == pytest.approx(spread, rel=0.035)


def test_less_noise_samples_colder():
    full, cold_at_last, cold = (
        spread_after_the_walk(SETTINGS.model_copy(update=update | {"cold_noise": 0.5}), 0.3)
        for update in (
            {"churn_noise": 1.0, "freeze_sigma": 0.0},
            {"churn_noise": 1.0, "freeze_sigma": 0.05},
            {"churn_noise": 0.5, "freeze_sigma": 0.2},
        )
    )
    assert cold < 0.7 * full
    assert cold < cold_at_last < full


def test_the_walk_freezes_earlier_in_dense_structures_unless_told_when():
    def freezes(density_g_cm3, **given):
        (atoms,) = empty_cells(parse_composition("C8"), [density_g_cm3])
        return freeze_sigma(atoms, SamplerSettings(**given))

    assert [freezes(density) for density in (1.0, 1.6, 2.3, 3.0, 3.5)] == pytest.approx(
        [0.15, 0.15, 0.2, 0.25, 0.25], abs=2e-3
    )
    assert freezes(3.5, freeze_sigma=0.1) == 0.1


def test_the_seed_decides(prior):
    cells = [cell(10)] * 3
    first, again, other = sample(prior, cells, SamplerSettings(steps=5), [1, 1, 2])
    np.testing.assert_allclose(first.positions, again.positions, atol=1e-9)
    assert np.abs(first.positions - other.positions).max() > 0.1
    repeat = sample(prior, cells, SamplerSettings(steps=5), [1, 1, 2])
    np.testing.assert_array_equal(repeat[2].positions, other.positions)


@pytest.mark.parametrize("cold_noise", [0.0, 0.35])
@pytest.mark.parametrize("max_atoms", [1, 25, 1000])
def test_a_structure_does_not_depend_on_its_batch(prior, max_atoms, cold_noise):
    cells, seeds = (
        [cell(12), cell(7), cell(90)],
        [3, 4, 5],
    )  # thin ones and a dense one, which freezes earlier
    settings = SamplerSettings(steps=20, max_atoms_per_batch=max_atoms, cold_noise=cold_noise)
    together = sample(prior, cells, settings, seeds)
    for k in range(3):
        alone = sample(prior, [cells[k]], settings, [seeds[k]])[0]
        np.testing.assert_allclose(together[k].positions, alone.positions, atol=1e-6)


def test_guidance_scales_belong_to_structures():
    denoiser = GaussianSites(CENTRE, 0.3)
    cells = [cell(64)] * 3
    guide = SpectrumGuidance(FirstAxis(), 5.0, [0.0, 3.0, 30.0], sigma_range=(0.04, 0.9))
    free, pulled, strong = sample(denoiser, cells, SETTINGS, [0, 0, 0], guide)
    unguided = sample(denoiser, [cells[0]], SETTINGS, [0])[0]
    np.testing.assert_allclose(free.positions, unguided.positions, atol=1e-9)
    means = [structure.positions[:, 0].mean() for structure in (free, pulled, strong)]
    assert means[0] < means[1] < means[2]
    assert means[2] > 4.15
    assert abs(strong.positions[:, 1].mean() - free.positions[:, 1].mean()) < 1e-6


def test_scales_survive_the_division_into_batches():
    guide = SpectrumGuidance(FirstAxis(), 5.0, [0.0, 30.0])
    small = SamplerSettings(max_atoms_per_batch=1)
    together, apart = (
        sample(GaussianSites(CENTRE, 0.3), [cell(8)] * 2, settings, [0, 0], guide)
        for settings in (SETTINGS, small)
    )
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-9)


def test_failed_structures_are_named_and_the_others_kept():
    cells, seeds = [cell(4), cell(5), cell(6)], [0, 1, 2]
    with pytest.raises(SamplingError, match=r"structure 1: .*not finite") as caught:
        sample(GaussianSites(CENTRE, 0.3, poison=5), cells, SETTINGS, seeds)
    assert set(caught.value.failures) == {1}
    healthy = sample(GaussianSites(CENTRE, 0.3), [cells[0], cells[2]], SETTINGS, [0, 2])
    for index, expected in zip((0, 2), healthy, strict=True):
        np.testing.assert_allclose(caught.value.completed[index].positions, expected.positions, atol=1e-9)


def test_fixed_atoms_stay_and_the_others_grow(prior):
    start = cell(12)
    start.positions[:4] = np.random.default_rng(0).random((4, 3)) * 8
    start.arrays["fixed"] = np.arange(12) < 4
    structure = sample(prior, [start], SamplerSettings(steps=20), [0])[0]
    np.testing.assert_allclose(structure.positions[:4], start.positions[:4], atol=1e-6)
    assert np.abs(structure.positions[4:]).max() > 0.5


def test_cell_and_species_come_through_and_atoms_are_inside(prior):
    start = cell(9)
    start.info["note"] = "kept"
    structure = sample(prior, [start], SamplerSettings(steps=5), [0])[0]
    assert structure.info["note"] == "kept"
    assert structure.get_chemical_formula() == "C9"
    fractions = structure.get_scaled_positions(wrap=False)
    assert fractions.min() >= -1e-9
    assert fractions.max() < 1


def test_bad_calls(prior):
    with pytest.raises(ValueError, match="1 seeds for 2 structures"):
        sample(prior, [cell(2)] * 2, SETTINGS, [0])
    with pytest.raises(UserError, match="Si"):
        sample(prior, [cell(2, "Si")], SETTINGS, [0])
    assert sample(prior, [], SETTINGS, []) == []

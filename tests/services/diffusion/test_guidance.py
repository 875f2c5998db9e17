import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.diffusion.slopes import batch_of, networks, slope_by_position, slope_by_strain, turned
from tests.services.diffusion.spectra import GRID, peak
from tests.services.diffusion.toys import FirstAxis, GaussianSites, Wavy

from nearedge_db.errors import UserError
from nearedge_services.diffusion.condition import ConditionSpace
from nearedge_services.diffusion.guidance import (
    ClassifierFreeGuidance,
    CombinedGuidance,
    NoiseAwareGuidance,
    ObjectiveGuidance,
    SpectrumGuidance,
    recast,
)
from nearedge_services.diffusion.moment import Moment
from nearedge_services.diffusion.objectives import DensityObjective, PairDistributionObjective
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import SamplingError, sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target

ALWAYS = (0.0, np.inf)
TARGET = Target.from_spectrum(Spectrum(GRID.energies, peak(4)), GRID, "C")


class ToldSites(GaussianSites):
    """Knows of one more thing: with a spectrum, where the sites are instead."""

    def __init__(self, site, told, width):
        super().__init__(site, width)
        self.unconditional, self.told = self.site, torch.tensor(told, dtype=torch.float64)

    def spectrum_of(self, target):
        return torch.as_tensor(target.intensity)

    def denoise(self, batch, sigma, spectrum=None):
        if spectrum is not None:
            assert spectrum.shape == (batch.size, GRID.size)
        self.site = self.unconditional if spectrum is None else self.told
        return super().denoise(batch, sigma)


class NoisyLikelihood:
    """−log p(y | x + σ n) where y is each atom's x with a scatter of `error` and x a Gaussian, exactly."""

    def __init__(self, site, width, error):
        self.site, self.width, self.error = site, width, error

    def noisy_mismatch(self, batch, sigma, target):
        shrink = (self.width**2 / (self.width**2 + sigma**2))[batch.structure]
        expected = self.site + shrink * (batch.positions[:, 0] - self.site)
        variance = shrink * sigma[batch.structure] ** 2 + self.error**2
        values = 0.5 * (expected - target) ** 2 / variance
        return torch.zeros(batch.size, dtype=values.dtype).index_add(0, batch.structure, values)


class NoisyWaves:
    """Smooth in everything."""

    elements = ("C",)

    def noisy_mismatch(self, batch, sigma, target):
        lengths = torch.linalg.det(batch.cells) ** (1 / 3)
        waves = torch.sin((batch.positions * lengths[batch.structure, None]).sum(-1) * 0.1)
        return (
            torch.zeros(batch.size, dtype=waves.dtype).index_add(0, batch.structure, waves) * sigma + target
        )


def moment_of(batch, sigma=0.3, prior=None, variable_cell=False):
    prior = GaussianSites([2.0, 2.0, 2.0], 0.3) if prior is None else prior
    sigmas = batch.positions.new_full((batch.size,), sigma)
    unguided = prior.denoise(batch, sigmas)
    return Moment(
        batch, unguided, batch.with_positions(unguided), sigma, prior, torch.arange(batch.size), variable_cell
    )


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def batch():
    return batch_of(networks())


def test_gradient_by_differences_at_the_denoised_positions(batch):
    moment = moment_of(batch)
    gradient, strain = SpectrumGuidance(Wavy(), 0.2, 1.0).gradient(moment)
    assert strain is None
    for atom, axis in [(0, 0), (2, 1), (9, 2), (14, 0)]:
        expected = slope_by_position(lambda b: Wavy().mismatch(b, 0.2), moment.denoised, atom, axis)
        assert gradient[atom, axis].item() == pytest.approx(expected, rel=1e-6)


def test_noise_aware_gradient_by_differences_at_the_noisy_positions(batch):
    moment = moment_of(batch, variable_cell=True)
    sigmas = moment.sigmas()
    gradient, strain = NoiseAwareGuidance(NoisyWaves(), 0.2, 1.0).gradient(moment)

    def value(b):
        return NoisyWaves().noisy_mismatch(b, sigmas, 0.2)

    for atom, axis in [(0, 0), (2, 1), (9, 2), (14, 0)]:
        assert gradient[atom, axis].item() == pytest.approx(slope_by_position(value, batch, atom, axis))
    for structure in (0, 1):
        assert strain[structure].item() == pytest.approx(slope_by_strain(value, batch, structure))


def test_gradient_works_inside_no_grad(batch):
    with torch.no_grad():
        assert SpectrumGuidance(Wavy(), 0.2, 1.0).gradient(moment_of(batch))[0].abs().sum() > 0


@pytest.mark.parametrize("kind", [SpectrumGuidance, NoiseAwareGuidance])
def test_shift_is_scale_sigma_squared_gradient(batch, kind):
    class Both(FirstAxis):
        def noisy_mismatch(self, batch, sigma, target):
            return self.mismatch(batch, target)

    guide = kind(Both(), 3.0, 0.1)
    moment = moment_of(batch)
    torch.testing.assert_close(guide.push(moment).shift, -0.1 * 0.3**2 * guide.gradient(moment)[0])


def test_strain_is_per_atom_and_spacing(batch):
    moment = moment_of(batch, variable_cell=True)
    guide = ObjectiveGuidance(DensityObjective(2.0, ("C",)), [0.0, 5.0])
    _, slope = guide.gradient(moment)
    volume = torch.linalg.det(batch.cells[1])
    expected = -5.0 * 0.3**2 * slope[1] / 9 / (volume / 9) ** (2 / 3)
    assert guide.push(moment).strain.tolist() == pytest.approx([0.0, expected.item()])


def test_guided_steps_turn_with_the_structure():
    batch = batch_of(networks())
    prior = Prior(
        ("C",), PriorSettings(n_scalar=8, n_vector=4, n_radial=6, n_layers=2, cutoff_a=3.0)
    ).double()
    r = np.linspace(1, 4, 31)
    guide = ObjectiveGuidance(PairDistributionObjective(r, 1 + np.cos(r)), 5.0)
    other, turn = turned(batch)
    with torch.no_grad():
        here, there = (guide.push(moment_of(b, prior=prior, variable_cell=True)) for b in (batch, other))
    torch.testing.assert_close(there.shift, here.shift @ turn.T, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(there.strain, here.strain, rtol=1e-6, atol=1e-9)


def test_no_atom_moves_more_than_the_clip(batch):
    shift = SpectrumGuidance(FirstAxis(), 30.0, [1e4, 0.0]).push(moment_of(batch, 0.2)).shift
    lengths = shift.norm(dim=-1)
    torch.testing.assert_close(lengths[:6], torch.full((6,), 0.1, dtype=torch.float64))
    assert (shift[:6, 0] > 0).all()
    assert (lengths[6:] == 0).all()


@pytest.mark.parametrize("sigma", [0.03, 0.8])
@pytest.mark.parametrize("kind", [SpectrumGuidance, NoiseAwareGuidance, ClassifierFreeGuidance])
def test_inactive_outside_its_noise_levels(batch, sigma, kind):
    first = (None,) if kind is not ClassifierFreeGuidance else ()
    guide = kind(*first, TARGET, 1.0, sigma_range=(0.04, 0.7))
    push = guide.push(moment_of(batch, sigma, variable_cell=True))
    assert (push.shift == 0).all()
    assert push.strain is None


def test_one_scale_or_one_per_structure():
    SpectrumGuidance(FirstAxis(), 0.0, 3).check(2)
    both = CombinedGuidance([SpectrumGuidance(FirstAxis(), 0.0, [1, 2]), ClassifierFreeGuidance(TARGET, 1.0)])
    both.check(2)
    with pytest.raises(ValueError, match="3 structures"):
        both.check(3)


def test_classifier_free_guidance_goes_from_one_denoiser_to_the_other_and_beyond(batch):
    prior = ToldSites([2.0, 2.0, 2.0], [2.0, 2.1, 2.0], 0.3)
    moment = moment_of(batch, prior=prior)
    told = prior.denoise(batch, moment.sigmas(), torch.zeros(2, GRID.size))
    shift = ClassifierFreeGuidance(TARGET, [1.0, 2.5]).push(moment).shift
    torch.testing.assert_close(moment.unguided[:6] + shift[:6], told[:6])
    torch.testing.assert_close(shift[6:], 2.5 * (told - moment.unguided)[6:])


@pytest.mark.parametrize(("weight", "centre"), [(0.0, 4.0), (1.0, 4.3), (2.0, 4.6)])
def test_classifier_free_samples_of_exact_denoisers(weight, centre):
    denoiser = ToldSites([4.0, 4.0, 4.0], [4.0, 4.0, 4.3], 0.2)
    cell = Atoms("C1000", positions=np.zeros((1000, 3)), cell=[8.0] * 3, pbc=True)
    settings = SamplerSettings(
        steps=300, sigma_max=0.9, churn=0.05, churn_noise=1.0, cold_noise=1.0, rest=1.0, sigma_min=0.005
    )
    guide = ClassifierFreeGuidance(TARGET, weight, clip=np.inf, sigma_range=ALWAYS)
    positions = sample(denoiser, [cell], settings, [0], guide)[0].positions
    assert positions[:, 2].mean() == pytest.approx(centre, abs=0.03)
    assert positions.std(axis=0) == pytest.approx([0.2] * 3, rel=0.08)


def test_a_noise_aware_surrogate_samples_the_posterior():
    """Prior and likelihood are Gaussian: so is what Bayes makes of them, known exactly."""
    site, width, error, target = 4.0, 0.3, 0.2, 4.4
    guide = NoiseAwareGuidance(NoisyLikelihood(site, width, error), target, 1.0, np.inf, ALWAYS)
    cell = Atoms("C1500", positions=np.zeros((1500, 3)), cell=[8.0] * 3, pbc=True)
    settings = SamplerSettings(
        steps=500, sigma_max=0.9, churn=0.04, churn_noise=1.0, cold_noise=1.0, rest=1.0, sigma_min=0.005
    )
    positions = sample(GaussianSites([site] * 3, width), [cell], settings, [0], guide)[0].positions
    precision = 1 / width**2 + 1 / error**2
    expected = (site / width**2 + target / error**2) / precision
    assert positions[:, 0].mean() == pytest.approx(expected, abs=0.02)
    assert positions[:, 0].std() == pytest.approx(precision**-0.5, rel=0.06)
    assert positions[:, 1:].std() == pytest.approx(width, rel=0.06)


def test_guidances_follow_one_another(batch):
    prior = ToldSites([2.0, 2.0, 2.0], [2.0, 2.5, 2.0], 0.3)
    moment = moment_of(batch, prior=prior, variable_cell=True)
    told = ClassifierFreeGuidance(TARGET, [1.0, 0.5])
    pulled = SpectrumGuidance(Wavy(), 0.2, 5.0)
    dense = ObjectiveGuidance(DensityObjective(2.0, ("C",)), 3.0)
    first = told.push(moment).shift
    second = pulled.push(moment.moved(first)).shift
    together = CombinedGuidance([told, pulled, dense]).push(moment)
    torch.testing.assert_close(together.shift, first + second)
    strains = [guide.push(moment.moved(first)).strain for guide in (pulled, dense)]
    torch.testing.assert_close(together.strain, sum(strains))
    assert (second - pulled.push(moment).shift).abs().max() > 1e-4


def test_both_kinds_together_in_the_sampler():
    denoiser = ToldSites([4.0, 4.0, 4.0], [4.0, 4.2, 4.0], 0.3)
    cells = [Atoms("C64", positions=np.zeros((64, 3)), cell=[8.0] * 3, pbc=True)] * 2
    told = ClassifierFreeGuidance(TARGET, [0.0, 1.0])
    pulled = SpectrumGuidance(FirstAxis(), 5.0, [30.0, 0.0])
    both = CombinedGuidance([told, pulled])
    settings = SamplerSettings(max_atoms_per_batch=64)
    first, second = sample(denoiser, cells, settings, [0, 0], both)
    assert first.positions[:, 0].mean() > 4.1
    assert abs(first.positions[:, 1].mean() - 4.0) < 0.1
    assert abs(second.positions[:, 0].mean() - 4.0) < 0.1
    assert second.positions[:, 1].mean() > 4.1


def test_a_guidance_that_fails_names_its_structure():
    class Broken(FirstAxis):
        def mismatch(self, batch, target):
            value = super().mismatch(batch, target)
            return value * torch.where(batch.counts == 5, float("nan"), 1.0)

    r = np.linspace(1, 3, 21)
    nearest = ObjectiveGuidance(PairDistributionObjective(r, r), 1.0)
    guide = CombinedGuidance([SpectrumGuidance(Broken(), 3.0, 1.0), nearest])
    cells = [Atoms(f"C{n}", positions=np.zeros((n, 3)), cell=[8.0] * 3, pbc=True) for n in (4, 5)]
    with pytest.raises(SamplingError, match="structure 1") as caught:
        sample(GaussianSites([4.0] * 3, 0.3), cells, SamplerSettings(steps=20), [0, 1], guide)
    assert set(caught.value.completed) == {0}


def test_species_are_counted_as_the_guide_does():
    batch = batch_of(networks(("C", "Si")), ("C", "Si"))
    assert recast(batch, None, ("Si",)) is batch
    assert recast(batch, ("C", "Si"), ("C", "Si")) is batch
    other = recast(batch, ("C", "Si"), ("Si", "Ge", "C"))
    assert torch.equal(other.species, torch.where(batch.species == 0, 2, 0))
    with pytest.raises(UserError, match="Si"):
        recast(batch, ("C", "Si"), ("C",))


def test_a_prior_without_spectra_cannot_be_told(batch):
    prior = Prior(
        ("C",), PriorSettings(n_scalar=8, n_vector=4, n_radial=6, n_layers=1, cutoff_a=3.0)
    ).double()
    with pytest.raises(UserError, match="without a condition"):
        ClassifierFreeGuidance(TARGET, 1.0).push(moment_of(batch, prior=prior))


def test_a_prior_of_spectra_is_told_the_target(batch):
    settings = PriorSettings(
        n_scalar=8, n_vector=4, n_radial=6, n_layers=1, cutoff_a=3.0, spectrum_components=2
    )
    prior = Prior(("C",), settings, ConditionSpace(GRID, "C")).double()
    prior.condition.fit(np.array([peak(3), peak(5), peak(7)]), np.ones(3))
    for layer in prior.backbone.modules():
        if isinstance(layer, torch.nn.Linear) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.3)
    moment = moment_of(batch, prior=prior)
    spectrum = torch.as_tensor(peak(4)).expand(2, -1)
    with torch.no_grad():
        expected = 2 * (prior.denoise(batch, moment.sigmas(), spectrum) - moment.unguided)
        found = ClassifierFreeGuidance(TARGET, 2.0, clip=np.inf).push(moment).shift
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected)

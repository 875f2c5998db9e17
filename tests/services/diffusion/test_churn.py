"""How much noise a prior bears: found where energies are known, told to the sampler, kept with the prior."""

import numpy as np
import pytest
import torch
from ase import Atoms
from tests.services.diffusion.toys import GaussianSites

from nearedge_services.diffusion.churn import CalibrationSettings, ChurnNoise, calibrated
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.diffusion.training import train_prior

CENTRE = [4.0, 4.0, 4.0]
KNOWN = ChurnNoise((0.1, 0.2), (0.4, 0.8))


def network(number_density):
    """Eight atoms at this number density, 1/Å³."""
    return Atoms("C8", positions=np.zeros((8, 3)), cell=[(8 / number_density) ** (1 / 3)] * 3, pbc=True)


def test_amplitudes_are_linear_between_densities_and_constant_beyond():
    values = KNOWN.at(torch.tensor([0.05, 0.1, 0.15, 0.3], dtype=torch.float64))
    assert values.tolist() == pytest.approx([0.4, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("densities", [(0.2, 0.1), (0.1,), ()])
def test_a_table_that_is_none_is_refused(densities):
    with pytest.raises(ValueError, match="densit"):
        ChurnNoise(densities, (0.5,) * 2 if densities else ())


def test_calibration_finds_the_amplitude_at_which_the_strain_is_as_wanted():
    """Strain here is known to be 2 (density / (1 Å⁻³)) × amplitude² in eV/atom, above networks at −1."""
    settings = CalibrationSettings(densities=3, structures=2, neighbours=2, strain_ev=0.1, thin_strain_ev=0.1)
    tried = []

    def draw(cells, amplitude):
        tried.append(amplitude)
        for atoms in cells:
            atoms.info["amplitude"] = amplitude
        return cells

    def energies(structures):
        return [-1 + 2 * (len(a) / a.get_volume()) * a.info.get("amplitude", 0.0) ** 2 for a in structures]

    found = calibrated([network(d) for d in (0.01, 0.1, 0.5)], energies, draw, settings)
    assert found.number_densities == pytest.approx((0.01, 0.255, 0.5))
    assert found.amplitudes == pytest.approx((1.35, (0.1 / 0.51) ** 0.5, 0.35), abs=1e-3)
    assert set(tried) == set(settings.amplitudes)


def test_thin_structures_may_be_strained_more():
    wanted = CalibrationSettings(
        strain_ev=0.1, thin_strain_ev=0.3, thin_packing=0.1, dense_packing=0.2
    ).wanted_ev
    assert [wanted(packing) for packing in (0.05, 0.1, 0.15, 0.2, 0.9)] == pytest.approx(
        [0.3, 0.3, 0.2, 0.1, 0.1]
    )


def test_the_sampler_adds_what_the_prior_bears_at_each_density_unless_told_otherwise():
    denoiser = GaussianSites(CENTRE, 0.3)
    atoms = Atoms("C1500", positions=np.zeros((1500, 3)), cell=[(1500 / 0.15) ** (1 / 3)] * 3, pbc=True)

    def spread(settings, known):
        denoiser.churn_noise = known
        return sample(denoiser, [atoms], settings, [0])[0].positions

    told = spread(SamplerSettings(churn_noise=0.6), None)
    assert spread(SamplerSettings(), KNOWN) == pytest.approx(told, abs=1e-6)
    assert np.array_equal(spread(SamplerSettings(churn_noise=0.6), ChurnNoise((0.1,), (0.9,))), told)
    assert not np.allclose(spread(SamplerSettings(), None), told, atol=1e-3)


def test_a_prior_keeps_it_on_disk_and_through_further_training(tmp_path):
    settings = PriorSettings(n_scalar=8, n_vector=4, n_radial=6, n_layers=1, cutoff_a=3.0, steps=2)
    prior = Prior(("C",), settings)
    assert Prior.load(prior.save(tmp_path)).churn_noise is None
    prior.churn_noise = KNOWN
    kept = Prior.load(prior.save(tmp_path))
    assert kept.churn_noise == KNOWN
    rng = np.random.default_rng(0)
    frame = Atoms("C8", positions=rng.uniform(0, 4, (8, 3)), cell=[4.0] * 3, pbc=True)
    trained, _ = train_prior([frame], [], settings, 0, kept)
    assert trained.churn_noise == KNOWN

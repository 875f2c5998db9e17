import numpy as np
import pytest
from pydantic import ValidationError

from nearedge_services.diffusion.noise import sampling_sigmas, stratified_uniforms, training_sigmas
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings


def test_training_sees_mostly_the_middle():
    sigmas = training_sigmas((np.arange(10_000) + 0.5) / 10_000, PriorSettings())
    assert sigmas.min() >= 0.03
    assert sigmas.max() <= 0.9
    assert 0.5 < np.mean((sigmas > 0.1) & (sigmas < 0.35)) < 0.8
    assert np.median(sigmas) == pytest.approx(0.2, rel=0.1)


def test_stratified_uniforms_fill_every_part():
    uniforms = stratified_uniforms(8, np.random.default_rng(0))
    assert sorted(np.floor(8 * uniforms).astype(int)) == list(range(8))


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_sampling_levels_descend_to_zero(steps):
    sigmas = sampling_sigmas(SamplerSettings(steps=steps))
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(SamplerSettings().sigma_max)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()


def test_settings_refuse_nonsense():
    with pytest.raises(ValidationError, match="sigma_min"):
        SamplerSettings(sigma_min=1.0)
    with pytest.raises(ValidationError, match="sigma_median_a"):
        PriorSettings(sigma_median_a=2.0)
    with pytest.raises(ValidationError, match="extra"):
        SamplerSettings(heun=True)

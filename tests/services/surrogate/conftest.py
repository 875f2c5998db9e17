"""One small surrogate trained on the synthetic rule, shared by the tests that only read it."""

import pytest
import torch
from tests.services.surrogate.synthetic import labelled_networks


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick_settings():
    """Small networks and few steps."""
    from nearedge_services.surrogate.settings import SurrogateSettings

    return SurrogateSettings(
        tight_binding=False,
        members=2,
        layers=2,
        guidance_members=2,
        channels=24,
        vectors=8,
        radial=8,
        cutoff_a=2.6,
        components=8,
        steps=70,
        refine_steps=20,
        batch_atoms=50,
        learning_rate=1e-2,
        ema=0.9,
        noise_aware_steps=200,
        noise_aware_channels=16,
        noise_aware_vectors=6,
        noise_aware_layers=1,
        noise_aware_cutoff_a=3.0,
        noise_aware_learning_rate=1e-2,
    )


@pytest.fixture(scope="session")
def trained(quick_settings):
    """(surrogate, metrics, training structures, held-out structures)."""
    from nearedge_services.surrogate.training import train_surrogate

    torch.set_num_threads(1)
    training, unseen = labelled_networks(16), labelled_networks(8, first=100)
    surrogate, metrics = train_surrogate(training, unseen, quick_settings, seed=0)
    return surrogate, metrics, training, unseen

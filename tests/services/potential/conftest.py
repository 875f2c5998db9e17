import pytest
import torch
from tests.services.potential.toys import labelled

from nearedge_services.potential import PotentialSettings, train_potential

SMALL = PotentialSettings(
    interactions=1, channels=8, radial_layers=(16,), cutoff_a=3.4, steps=80, warm_steps=20, max_ell=1
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def frames():
    return [labelled(seed) for seed in range(24)]


@pytest.fixture(scope="session")
def held_out():
    return [labelled(seed) for seed in range(100, 106)]


@pytest.fixture(scope="session")
def trained(frames, held_out):
    """(potential, metrics) of a small committee."""
    return train_potential(frames, held_out, SMALL, seed=3)


@pytest.fixture(scope="session")
def potential(trained):
    return trained[0]

import pytest
import torch

from nearedge_services.potential.network import build_network
from nearedge_services.potential.potential import Potential
from nearedge_services.potential.settings import Architecture
from nearedge_services.registry import ModelRegistry

ARCHITECTURE = Architecture(
    elements=(6,),
    isolated_energies_ev=(-50.0,),
    scale_ev=1.0,
    message_norm=4.0,
    cutoff_a=3.0,
    channels=4,
    max_ell=1,
    correlation=1,
    interactions=1,
    radial_functions=4,
    radial_layers=(8,),
    readout_channels=4,
    core_repulsion=False,
)


@pytest.fixture(scope="session")
def potential():
    torch.set_num_threads(1)
    return Potential(ARCHITECTURE, [build_network(ARCHITECTURE, seed) for seed in (0, 1)])


@pytest.fixture(scope="session")
def model_folder(potential, tmp_path_factory):
    return potential.save(tmp_path_factory.mktemp("model") / "potential")


@pytest.fixture(scope="session")
def recorded(model_folder, tmp_path_factory):
    """A store with three versions of the potential, and what recording gave."""
    run_dir = tmp_path_factory.mktemp("run")
    registry = ModelRegistry(f"sqlite:///{run_dir / 'mlflow.db'}", "carbon")
    notes = run_dir / "notes.txt"
    notes.write_text("kept beside the model")
    models = [
        registry.record_training(
            "potential",
            model_folder,
            parameters={"steps": 100 * k, "elements": ["C"]},
            metrics={"force_rmse_ev_per_a": 1.0 / (k + 1)},
            dataset_hash=f"{k}" * 64,
            artifacts=[notes],
            tags={"campaign": "carbon"},
        )
        for k in range(3)
    ]
    return registry, models, run_dir


@pytest.fixture
def registry(recorded):
    """The shared registry with version 1 as its only champion so far."""
    registry = recorded[0]
    client = registry._client
    if registry.champion("potential") is not None:
        client.delete_registered_model_alias("nearedge-potential", "champion")
        client.set_registered_model_tag("nearedge-potential", "nearedge.champion_history", "[]")
    registry.promote("potential", 1)
    return registry

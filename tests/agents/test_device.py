"""Where models compute, with GPUs that are made up: there is none where the tests run."""

from types import SimpleNamespace

import pytest
import ray
import torch
from tests.platform.tiny_models import write_models

from nearedge_agents import models, trainer
from nearedge_agents.device import own_device
from nearedge_agents.models import ModelCache, ModelFiles
from nearedge_agents.trainer import Trainer


@pytest.fixture
def gpus(monkeypatch):
    """Set what Ray gave this process, and whether torch sees it."""

    def make(given: list[str], seen: bool) -> None:
        context = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": given, "TPU": []})
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)

    return make


@pytest.mark.parametrize(
    ("given", "seen", "device"),
    [(["0"], True, "cuda"), ([], True, "cpu"), (["0"], False, "cpu"), ([], False, "cpu")],
)
def test_a_gpu_is_used_where_ray_gave_one_and_torch_sees_it(gpus, caplog, given, seen, device):
    gpus(given, seen)
    assert own_device() == device
    assert ("torch sees none" in caplog.text) is bool(given and not seen)


def test_without_ray_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not ray.is_initialized()
    assert own_device() == "cpu"


@pytest.mark.parametrize("kind", ["prior", "surrogate", "potential"])
def test_what_an_actor_loads_goes_to_its_device(tmp_path, monkeypatch, kind):
    write_models(tmp_path)
    monkeypatch.setattr(
        models, "own_device", lambda: "meta"
    )  # a device of every torch: tensors without values
    loaded = ModelCache().get(ModelFiles.read(kind, 1, tmp_path / kind))
    assert torch.device(loaded.device).type == "meta"
    parts = {"prior": loaded, "surrogate": getattr(loaded, "network", None)}.get(kind) or loaded.members
    assert {value.device.type for value in parts.state_dict().values()} == {"meta"}


def test_a_trainer_trains_on_its_device(tmp_path, monkeypatch, database):
    monkeypatch.setattr(trainer, "own_device", lambda: "meta")
    asked = []

    def train(train, held_out, settings, seed, *, initial, device):
        asked.append(device)
        return SimpleNamespace(save=lambda folder: None), {"loss": 1.0}

    kind = SimpleNamespace(train=train, settings=dict, headline="loss")
    worker = Trainer(database.url, "sqlite://", "agents", tmp_path)
    worker._train(kind, {"settings": {}, "parent_model_id": None, "seed": 3, "folder": "m"}, [], [])
    assert asked == ["meta"]

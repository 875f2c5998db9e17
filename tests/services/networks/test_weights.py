import pytest
import torch
from torch import nn

from nearedge_db.errors import UserError
from nearedge_services.networks.weights import load_config, load_weights, save_weights


def test_round_trip(tmp_path):
    module = nn.Linear(3, 2)
    save_weights(tmp_path / "a" / "b", module, {"kind": "toy", "sizes": [3, 2]})
    loaded = load_weights(tmp_path / "a" / "b", nn.Linear(3, 2))
    assert torch.equal(loaded.weight, module.weight)
    assert load_config(tmp_path / "a" / "b") == {"kind": "toy", "sizes": [3, 2]}
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]


def test_errors_name_the_trouble(tmp_path):
    with pytest.raises(UserError, match="no model"):
        load_config(tmp_path)
    with pytest.raises(UserError, match="no weights"):
        load_weights(tmp_path, nn.Linear(3, 2))
    save_weights(tmp_path, nn.Linear(3, 2), {})
    with pytest.raises(UserError, match="do not fit"):
        load_weights(tmp_path, nn.Linear(4, 2))
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        load_weights(tmp_path, nn.Linear(3, 2))
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="JSON"):
        load_config(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    module = nn.Linear(3, 2)
    module.weight.data[0, 0] = float("nan")
    save_weights(tmp_path, module, {})
    with pytest.raises(UserError, match="finite"):
        load_weights(tmp_path, nn.Linear(3, 2))


def test_config_must_be_json(tmp_path):
    with pytest.raises(TypeError):
        save_weights(tmp_path, nn.Linear(1, 1), {"path": tmp_path})
    assert not (tmp_path / "config.json").exists()

"""Weights on disk: safetensors and a JSON config, nothing that is unpickled."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nearedge_db.errors import UserError

Module = TypeVar("Module", bound=nn.Module)

WEIGHTS_FILE = "weights.safetensors"
CONFIG_FILE = "config.json"


def save_weights(folder: str | Path, module: nn.Module, config: dict[str, Any]) -> Path:
    """Write the module's state and its JSON-able `config` into `folder`; each file appears whole or not.

    The config is written last: a folder that has one also has its weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # clone: safetensors refuses tensors that share memory
    state = {key: value.detach().cpu().contiguous().clone() for key, value in module.state_dict().items()}
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    _replace(folder / WEIGHTS_FILE, lambda path: save_file(state, path))
    _replace(folder / CONFIG_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def load_config(folder: str | Path) -> dict[str, Any]:
    """The config that `save_weights` wrote; UserError when there is none or it is not JSON."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise UserError(
            "no model in this folder", got=folder, fix=f"name a folder with {WEIGHTS_FILE} and {CONFIG_FILE}"
        )
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise UserError(
            "the model's config is not valid JSON", got=path, fix="train or copy it again"
        ) from error


def load_weights(folder: str | Path, module: Module) -> Module:
    """Fill `module` with the saved state, strictly.

    UserError when files are missing, damaged or of other sizes.
    """
    path = Path(folder) / WEIGHTS_FILE
    if not path.is_file():
        raise UserError("the model has no weights", got=path, fix="train or copy it again")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError("the weights file is damaged", got=path, fix="train or copy it again") from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            "the weights do not fit the model's config",
            got=path,
            fix="keep weights and config of one training together",
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point()):
        raise UserError("the weights are not finite", got=path, fix="train the model again")
    return module


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    write(temporary)
    temporary.replace(path)

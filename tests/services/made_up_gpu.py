"""A GPU that is made up, for machines without one: tensors there are on the CPU in truth and refuse to meet others.

What it finds are tensors of two devices in one operation, and results that nobody brought back. It says nothing of
speed, of rounding, or of what a real GPU cannot do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda")
CREATING = frozenset(
    ("tensor", "as_tensor", "arange", "zeros", "ones", "empty", "full", "eye", "linspace", "rand", "randn")
)
"""Functions whose results are where ``device`` says, and on the CPU without it."""


class There(torch.Tensor):
    """A tensor on the GPU."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


class _Mode(TorchFunctionMode):
    """Sees every function of torch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _call(func, args, kwargs or {})


@contextmanager
def made_up_gpu() -> Iterator[None]:
    """Inside, ``cuda`` is a device."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Mode():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _call(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    name = getattr(func, "__name__", "")
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    there = any(isinstance(one, There) for one in tensors)
    if func == torch.Tensor.device.__get__:
        return CUDA if there else _raw(func, args, kwargs)
    if name == "_has_compatible_shallow_copy_type":  # `Module.to` then makes new parameters
        return False
    if there and name in ("numpy", "__array__"):
        raise TypeError("a tensor on the GPU has no values for numpy")
    if name in MOVING:
        return MOVING[name](*args, **kwargs) if there or name == "to" else _raw(func, args, kwargs)
    if name in CREATING:
        device = kwargs.pop("device", None)
        return _on(_raw(func, args, kwargs), device is not None and torch.device(device).type == "cuda")
    _check(func, name, tensors)
    return tree_map(lambda value: _on(value, there), _raw(func, args, kwargs))


def _check(func: Callable, name: str, tensors: list[torch.Tensor]) -> None:
    """Raise RuntimeError where tensors of both devices meet: numbers may, and indices on the CPU."""
    shapes = [tuple(one.shape) for one in tensors if not isinstance(one, There) and one.dim()]
    if not shapes or len(shapes) == len(tensors) or not any(isinstance(one, There) for one in tensors):
        return
    is_index = func == torch.Tensor.__getitem__ and isinstance(tensors[0], There)
    # gradients come from the engine of autograd, which knows nothing of the GPU
    if (
        not is_index
        and name not in ("copy_", "backward", "grad")
        and not name.startswith(("_foreach", "_fused"))
    ):
        raise RuntimeError(f"{name}: tensors on the CPU of {shapes} meet others on the GPU")


def _moved(first: torch.Tensor, *rest: Any, device: Any = None, **more: Any) -> torch.Tensor:
    """``Tensor.to`` with a device, a type, or another tensor."""
    there, others = isinstance(first, There), list(rest)
    if others and isinstance(others[0], torch.Tensor):
        there = isinstance(others[0], There)
    elif others and isinstance(others[0], str | torch.device | None):
        device, others[0] = others[0] or device, "cpu"
    if device is not None:
        there = torch.device(device).type == "cuda"
    return _on(_raw(torch.Tensor.to, (first, *(others or ["cpu"])), more), there)


def _brought_back(tensor: torch.Tensor) -> torch.Tensor:
    return _on(_raw(torch.Tensor.cpu, (tensor,), {}), False)


def _copy(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        copy = tensor.detach().clone().as_subclass(There).requires_grad_(tensor.requires_grad)
    copy._is_param = getattr(tensor, "_is_param", False)
    return memo.setdefault(id(tensor), copy)


MOVING = {"to": _moved, "cpu": _brought_back, "__deepcopy__": _copy}


def _on(value: Any, there: bool) -> Any:
    if not isinstance(value, torch.Tensor) or isinstance(value, There) is there:
        return value
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(There if there else torch.Tensor)


def _raw(func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)

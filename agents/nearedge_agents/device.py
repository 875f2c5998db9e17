"""Where an actor's models compute: on the GPU that Ray gave it, if any."""

import logging

import ray

logger = logging.getLogger(__name__)


def own_device() -> str:
    """``cuda`` where Ray has given this actor a GPU, or a share of one, and torch sees it; else ``cpu``.

    Not where the machine merely has a GPU: it may be another actor's. Ray shows an actor only those it was given.
    """
    if not ray.is_initialized() or not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    logger.warning("Ray gave this actor a GPU and torch sees none: its models compute on the CPU")
    return "cpu"

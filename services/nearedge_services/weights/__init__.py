"""The models that come with the program."""

from collections.abc import Sequence
from pathlib import Path

from nearedge_services.networks.weights import CONFIG_FILE

LIBRARY_FILE = "library.npz"
"""Beside the models of a material: the networks they learnt from as a library of spectra."""
TRAINING_NETWORKS_FILE = "training_networks.npz"
"""Beside the models of a material: the networks that the prior learnt from."""

ROOT = Path(__file__).parent

MATERIALS: dict[tuple[str, ...], str] = {("C",): "carbon"}
"""Elements of a material, sorted, and the folder of its models."""


def shipped(kind: str, elements: Sequence[str]) -> Path | None:
    """Folder of the shipped ``prior``, ``surrogate`` or ``potential`` for just these elements; None without one."""
    folder = _folder(elements)
    return folder / kind if folder is not None and (folder / kind / CONFIG_FILE).is_file() else None


def shipped_library(elements: Sequence[str]) -> Path | None:
    """The shipped library of spectra (`inference.library.read_library`) for just these elements; None without one.

    Which oracle labelled it is said beside it: `labels.labelled_by` of its folder.
    """
    folder = _folder(elements)
    return folder / LIBRARY_FILE if folder is not None and (folder / LIBRARY_FILE).is_file() else None


def _folder(elements: Sequence[str]) -> Path | None:
    material = MATERIALS.get(tuple(sorted(set(elements))))
    return None if material is None else ROOT / material

"""The models that come with the program."""

from collections.abc import Sequence
from pathlib import Path

from nearedge_services.networks.weights import CONFIG_FILE

ROOT = Path(__file__).parent

MATERIALS: dict[tuple[str, ...], str] = {("C",): "carbon"}
"""Elements of a material, sorted, and the folder of its models."""


def shipped(kind: str, elements: Sequence[str]) -> Path | None:
    """Folder of the shipped ``prior``, ``surrogate`` or ``potential`` for just these elements; None without one."""
    material = MATERIALS.get(tuple(sorted(set(elements))))
    if material is None:
        return None
    folder = ROOT / material / kind
    return folder if (folder / CONFIG_FILE).is_file() else None

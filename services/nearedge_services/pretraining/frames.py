"""Labelled frames that the stages left in their files."""

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.structures.extxyz import read_structures

KEPT = "kept"
"""Beginning of the names of files and groups of networks from earlier models."""
REFINED = "refined"
"""Beginning of the names of files and groups of generated structures that a potential refined."""


def read_frames(folder: Path, *names: str) -> list[Atoms]:
    """All labelled frames of the stages with these names, in the order of their files."""
    files = [file for name in names for file in sorted((folder / "frames").glob(f"{name}-*.extxyz"))]
    return [atoms for file in files if file.stat().st_size for atoms in read_structures(file)]


def before_networks(rounds: int) -> tuple[str, ...]:
    """Stages that the potential learns from after so many rounds: from nothing, or from earlier networks."""
    return ("first", "hot", KEPT, *(f"round{number}" for number in range(1, rounds + 1)))


def model_frames(folder: Path, settings: PretrainingSettings) -> list[Atoms]:
    """Those of the networks that prior and surrogate learn from."""
    return read_frames(folder, KEPT, "network" if settings.network_anneal is None else "annealed")


def networks(frames: Sequence[Atoms]) -> list[Atoms]:
    """The relaxed networks among labelled frames."""
    return [atoms for atoms in frames if atoms.info.get("network")]

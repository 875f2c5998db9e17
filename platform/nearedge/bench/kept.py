"""What a bench has made, kept in its folder: a bench that was interrupted goes on where it stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge_services.structures.extxyz import read_structures, write_structures

Made = tuple[list[Atoms], dict[str, Any]]
"""Structures, and what else is to be known about them (JSON)."""


class Kept:
    """Structures in files that are named by all that decides them.

    The version of the program is part of the name, its code is not: whoever changes that gives another folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, step: str, structures: Sequence[Atoms], inputs: Mapping[str, Any], make: Callable[[], Made]
    ) -> Made:
        """What ``make`` gives for these structures and inputs (JSON), from the file where there is one.

        It is read back in any case, so that what follows starts from the same digits the first time and later.
        """
        name = f"{step}-{fingerprint(structures, inputs)}"
        facts, positions = self.folder / f"{name}.json", self.folder / f"{name}.extxyz"
        if not facts.is_file():
            made, told = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            if made:
                write_structures(positions, made)
            partial = facts.with_suffix(".part")
            partial.write_text(json.dumps({"structures": len(made), **told}), encoding="utf-8")
            partial.replace(facts)  # last: without it nothing counts
        told = json.loads(facts.read_text(encoding="utf-8"))
        return (read_structures(positions) if told.pop("structures") else []), told


def fingerprint(structures: Sequence[Atoms], inputs: Mapping[str, Any]) -> str:
    """A name for structures (species, cells, positions, fixed atoms) and settings."""
    found = sha256(json.dumps([version("nearedge"), inputs], sort_keys=True).encode())
    for atoms in structures:
        for array in (atoms.numbers, atoms.cell.array, atoms.positions, atoms.arrays.get("fixed", [])):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:20]

"""Many networks in a small file: fractional coordinates in 16 bits."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from ase import Atoms

from nearedge_db.errors import UserError

_LEVELS = 65536
_KEYS = {"counts", "numbers", "cells", "fractional"}


def write_networks(path: str | Path, networks: Sequence[Atoms]) -> None:
    """Write positions, species and cells (.npz, six bytes an atom); labels and notes are left out.

    Positions are rounded to 1/65536 of the cell: 0.0002 Å in a cell of 12 Å. The cells must be periodic.
    """
    fractional = [atoms.cell.scaled_positions(atoms.positions) for atoms in networks]
    steps = np.round(np.mod(np.concatenate(fractional), 1.0) * _LEVELS).astype(np.int64) % _LEVELS
    np.savez_compressed(
        path,
        counts=np.array([len(atoms) for atoms in networks], dtype=np.int32),
        numbers=np.concatenate([atoms.numbers for atoms in networks]).astype(np.uint8),
        cells=np.array([atoms.cell.array for atoms in networks], dtype=np.float64),
        fractional=steps.astype(np.uint16),
    )


def read_networks(path: str | Path) -> list[Atoms]:
    """What `write_networks` wrote. Raises UserError for a file that is missing or something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in _KEYS & set(stored.files)}
    except FileNotFoundError:
        raise UserError("the file of networks does not exist", got=path, fix="name one that does") from None
    except (ValueError, OSError, BadZipFile) as error:
        raise UserError("the file of networks is not readable", got=path, fix="write it again") from error
    if set(arrays) != _KEYS or arrays["counts"].sum() != len(arrays["numbers"]):
        raise UserError("the file holds no networks", got=path, fix="name one that holds some")
    ends = np.cumsum(arrays["counts"])[:-1]
    return [
        Atoms(numbers=numbers, cell=cell, pbc=True, scaled_positions=fractional / _LEVELS)
        for numbers, cell, fractional in zip(
            np.split(arrays["numbers"].astype(int), ends),
            arrays["cells"],
            np.split(arrays["fractional"].astype(float), ends),
            strict=True,
        )
    ]

"""Content hashes: the identity of structures, oracle settings, tasks and data sets."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_DECIMALS_PER_ANGSTROM = 1e5


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """Hash of anything JSON-able, 64 hexadecimal digits; the order of keys does not matter."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _rounded(lengths_a: ArrayLike) -> bytes:
    """Lengths in whole units of 1e-5 Å, as little-endian integers: −0.0 and 0.0 are the same."""
    lengths = np.asarray(lengths_a, dtype=np.float64)
    if not np.isfinite(lengths).all():
        raise ValueError("positions and cell must be finite")
    return np.rint(lengths * _DECIMALS_PER_ANGSTROM).astype("<i8").tobytes()


def structure_hash(numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike) -> str:
    """Identity of a structure, 64 hexadecimal digits.

    Args:
        numbers: (N,) atomic numbers.
        positions: (N, 3) Å, rounded to 1e-5 Å.
        cell: (3, 3) Å, rows are lattice vectors, rounded to 1e-5 Å.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """
    species = np.asarray(numbers, dtype="<i8")
    shapes = (species.shape, np.shape(positions), np.shape(cell))
    if species.size == 0 or shapes != ((species.size,), (species.size, 3), (3, 3)):
        raise ValueError(f"numbers, positions and cell of shapes {shapes} are no structure")
    digest = hashlib.sha256()
    for part in (species.tobytes(), _rounded(positions), _rounded(cell)):
        digest.update(part)
    return digest.hexdigest()


def settings_hash(oracle_name: str, settings: dict[str, Any]) -> str:
    """Identity of an oracle with its settings; the order of the keys does not matter."""
    return content_hash({"oracle": oracle_name, "settings": settings})


def task_identity(kind: str, *parts: Any) -> str:
    """Identity of a task: its kind and the hash of JSON-able parts (structure and settings hashes, seeds)."""
    return f"{kind}:{content_hash([kind, *parts])}"


def dataset_hash(structure_hashes: Iterable[str], settings_hash: str) -> str:
    """Identity of a labelled data set; the order of the structures does not matter."""
    return content_hash([sorted(structure_hashes), settings_hash])

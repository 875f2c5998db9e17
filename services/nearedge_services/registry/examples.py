"""A structure that shows what a registered model takes: MLflow keeps it beside the signature as the input example."""

import json
from itertools import cycle, islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_SIDE = 2
"""Atoms along an edge of the cell."""
_SPACING = 1.1
"""Distance between neighbours over the sum of covalent radii."""


def example_input(kind: str, model_folder: Path) -> "pd.DataFrame":
    """One row as `pyfunc_entry` describes it: a simple cubic cell of eight atoms with the elements of the model.

    Raises UserError when the model's config does not name its elements.
    """
    import pandas as pd
    from ase.data import covalent_radii

    numbers = list(islice(cycle(_elements(model_folder)), _SIDE**3))
    spacing_a = 2 * _SPACING * max(float(covalent_radii[number]) for number in numbers)
    edge_a = _SIDE * spacing_a
    row: dict[str, Any] = {
        "numbers": numbers,
        "cell": [[edge_a if i == k else 0.0 for k in range(3)] for i in range(3)],
    }
    if kind == "prior":
        row["seed"] = 0
    else:
        row["positions"] = [[spacing_a * n for n in place] for place in product(range(_SIDE), repeat=3)]
    return pd.DataFrame([row])


def _elements(folder: Path) -> list[int]:
    """Atomic numbers that the model knows."""
    from ase.data import atomic_numbers

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = config.get("elements") or config.get("architecture", {}).get("elements")
    if not named:
        raise UserError(
            "the model does not say which elements it knows",
            got=folder,
            fix="give the folder that the model's save wrote",
        )
    return [atomic_numbers[one] if isinstance(one, str) else int(one) for one in named]

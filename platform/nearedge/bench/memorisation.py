"""Does the prior repeat its training networks?"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench.base import Row
from nearedge.bench.workshop import Workshop, near
from nearedge_services.structures.agreement import binomial_interval
from nearedge_services.structures.compact import read_networks
from nearedge_services.structures.extxyz import read_structures
from nearedge_services.structures.matching import MATCH_TOLERANCE_A, Networks, lattice_operations
from nearedge_services.weights import TRAINING_NETWORKS_FILE

LIMIT_SHARE = 0.01

FILES = (TRAINING_NETWORKS_FILE, "networks.npz", "networks.extxyz")
"""Where the training networks are looked for, in the prior's folder and up to two folders above."""

_CONTROLS = 8
_CONTROL_NOISE_A = 0.1


@dataclass(frozen=True)
class MemorySettings:
    """How much is compared."""

    generated: int = 300
    candidates: int = 12
    """Training networks with which a structure is matched: the most alike by fingerprint."""


def memorisation(
    settings: MemorySettings, workshop: Workshop, at: Callable[[float, str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """Rows and data; one row without a figure where the training networks are not known.

    One structure is generated in the very cell of each training network (again from the first one when more
    are wanted), where repeating it is easiest, and matched with the training networks of that composition and
    volume under permutation, rotation, mirroring and translation. As a control, training networks that were
    displaced by 0.1 Å per coordinate, moved and permuted must be found.
    """
    path = training_file(workshop.prior_folder)
    what = "generated structures that match a training network"
    if path is None:
        return [Row.at_most(f"{what} (training networks not found)", None, LIMIT_SHARE, "share")], {}
    networks = read_networks(path) if path.suffix == ".npz" else read_structures(path)
    known = Networks(networks)
    rng = np.random.default_rng(workshop.seeds("memory", 1)[0])
    controls = [disguised(networks[k], rng) for k in rng.choice(len(networks), _CONTROLS)]
    found = [_displacement(known, atoms, settings) for atoms in controls]
    cells = [networks[k % len(networks)] for k in range(settings.generated)]
    sampled = workshop.sample(cells, "memory")
    nearest = []
    for number, structure in enumerate(sampled.structures):
        at(0.5 + 0.5 * number / len(sampled.structures), "matching")
        nearest.append(_displacement(known, structure, settings))
    matches = sum(value <= MATCH_TOLERANCE_A for value in nearest)
    _, high = binomial_interval(matches, len(nearest))
    rows = [
        Row.at_most(
            f"{what}, {matches} of {len(nearest)} (baseline: upper 95 % limit)",
            matches / len(nearest),
            LIMIT_SHARE,
            "share",
            high,
        ),
        Row.shown("their displacement from the nearest training network, least", min(nearest), "Å"),
        Row.at_least(
            "control: disguised training networks that are found",
            float(np.mean(np.array(found) <= MATCH_TOLERANCE_A)),
            1.0,
            "share",
        ),
    ]
    return rows, {
        "file": str(path),
        "networks": len(networks),
        "displacements_a": nearest,
        "control_a": found,
    }


def _displacement(known: Networks, atoms: Atoms, settings: MemorySettings) -> float:
    """Root mean square displacement from the best match, Å; infinite without a compatible network."""
    best = known.nearest(atoms, settings.candidates)
    return float("inf") if best is None else best[1].rms_a


def training_file(prior_folder: Path) -> Path | None:
    """The file of the networks a prior was trained on, if it is near the prior."""
    places = [place / name for place in near(prior_folder) for name in FILES]
    return next((path for path in places if path.is_file()), None)


def disguised(atoms: Atoms, rng: np.random.Generator, noise_a: float = _CONTROL_NOISE_A) -> Atoms:
    """The same network after noise, a random isometry of its lattice, a translation and a permutation."""
    operations = lattice_operations(atoms.cell.array, atoms.cell.array)
    fractional = atoms.get_scaled_positions() @ operations[rng.integers(len(operations))] + rng.random(3)
    copy = Atoms(atoms.numbers, scaled_positions=fractional % 1.0, cell=atoms.cell, pbc=True)
    copy.positions += rng.normal(scale=noise_a, size=copy.positions.shape)
    return copy[rng.permutation(len(copy))]

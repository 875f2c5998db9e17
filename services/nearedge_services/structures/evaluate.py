"""How good an ensemble of structures is: the same measures for it and for a reference, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.structures.angles import angle_distribution, bond_angles
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.coordination import coordination_numbers, shortest_contact
from nearedge_services.structures.fingerprint import NOVELTY_THRESHOLD, fingerprint, fingerprint_distance
from nearedge_services.structures.rdf import radial_distribution
from nearedge_services.structures.rings import ring_shares
from nearedge_services.structures.validity import CONTACT_FACTOR, is_valid

DENSITY_TOLERANCE_G_CM3 = 0.15
"""Structures this close in density are compared with one another."""

LARGEST_RING = 8


def evaluate(
    generated: Sequence[Atoms], reference: Sequence[Atoms], contact_factor: float = CONTACT_FACTOR
) -> dict[str, Any]:
    """Compare generated structures with reference ones; a JSON-able dictionary.

    ``overall`` compares all with all; ``groups`` compares structures of like density (within 0.15 g/cm³),
    because g(r) and coordination follow the density first. Each comparison has ``g_r_rmse`` (up to 6 Å),
    ``bond_angle_rmse`` (per degree; None when there are no angles), and ``coordination``, ``rings`` (per
    atom) and ``density_g_cm3``, each for ``generated`` and ``reference``; ``g_r_rmse_within_reference``
    (None for fewer than two references) is what two halves of the reference differ by, the noise below
    which nothing shows.

    ``validity`` is the share without overlapping atoms, ``novelty`` the fingerprint distance to the nearest
    reference, ``diversity`` the one between generated structures. Raises UserError when a list is empty or
    the two have no element in common.
    """
    _check(generated, reference)
    return {
        "generated": len(generated),
        "reference": len(reference),
        "overall": _compare(generated, reference),
        "groups": [_compare(ours, theirs) for ours, theirs in _density_groups(generated, reference)],
        "validity": _validity(generated, reference, contact_factor),
        **_novelty_and_diversity(generated, reference),
    }


def _check(generated: Sequence[Atoms], reference: Sequence[Atoms]) -> None:
    for name, atoms_list in (("generated", generated), ("reference", reference)):
        if not atoms_list:
            raise UserError(f"there is no {name} structure", fix="give at least one")
    ours = {symbol for atoms in generated for symbol in atoms.symbols}
    theirs = {symbol for atoms in reference for symbol in atoms.symbols}
    if not ours & theirs:
        raise UserError(
            "generated and reference structures have no element in common",
            got=f"{'-'.join(sorted(ours))} and {'-'.join(sorted(theirs))}",
            fix="compare structures of one material",
        )


def _density_groups(
    generated: Sequence[Atoms], reference: Sequence[Atoms]
) -> list[tuple[list[Atoms], list[Atoms]]]:
    """References of like density with the generated structures nearest to them, where there are both."""
    densities = np.array([density_g_cm3(atoms) for atoms in reference])
    order = np.argsort(densities, kind="stable")
    breaks = np.flatnonzero(np.diff(densities[order]) > DENSITY_TOLERANCE_G_CM3 / 2) + 1
    clusters = np.split(order, breaks)
    centres = np.array([densities[cluster].mean() for cluster in clusters])
    members: list[list[Atoms]] = [[] for _ in clusters]
    for atoms in generated:
        gaps = np.abs(centres - density_g_cm3(atoms))
        if gaps.min() <= DENSITY_TOLERANCE_G_CM3:
            members[int(gaps.argmin())].append(atoms)
    return [
        (ours, [reference[index] for index in cluster])
        for ours, cluster in zip(members, clusters, strict=True)
        if ours
    ]


def _compare(generated: Sequence[Atoms], reference: Sequence[Atoms]) -> dict[str, Any]:
    sides = {"generated": generated, "reference": reference}
    return {
        "counts": {name: len(side) for name, side in sides.items()},
        "density_g_cm3": {
            name: _mean([density_g_cm3(atoms) for atoms in side]) for name, side in sides.items()
        },
        "g_r_rmse": _g_r_rmse(generated, reference),
        "g_r_rmse_within_reference": _g_r_rmse(reference[::2], reference[1::2])
        if len(reference) > 1
        else None,
        "bond_angle_rmse": _angle_rmse(generated, reference),
        "bond_angle_mean_deg": {name: _mean_angle(side) for name, side in sides.items()},
        "coordination": {name: _coordination(side) for name, side in sides.items()},
        "rings": {name: _text_keys(ring_shares(side, LARGEST_RING)) for name, side in sides.items()},
    }


def _g_r_rmse(first: Sequence[Atoms], second: Sequence[Atoms]) -> float:
    return _rmse(radial_distribution(first)[1], radial_distribution(second)[1])


def _angle_rmse(first: Sequence[Atoms], second: Sequence[Atoms]) -> float | None:
    if not all(any(len(bond_angles(atoms)) for atoms in side) for side in (first, second)):
        return None
    return _rmse(angle_distribution(first)[1], angle_distribution(second)[1])


def _mean_angle(atoms_list: Sequence[Atoms]) -> float | None:
    angles = np.concatenate([bond_angles(atoms) for atoms in atoms_list])
    return _mean(angles) if len(angles) else None


def _coordination(atoms_list: Sequence[Atoms]) -> dict[str, float]:
    """Share of all atoms with each coordination number; 2, 3 and 4 always."""
    numbers = np.concatenate([coordination_numbers(atoms) for atoms in atoms_list])
    shares = np.bincount(numbers, minlength=5) / len(numbers)
    return {
        str(number): float(share) for number, share in enumerate(shares) if share > 0 or number in {2, 3, 4}
    }


def _validity(
    generated: Sequence[Atoms], reference: Sequence[Atoms], contact_factor: float
) -> dict[str, Any]:
    sides = {"generated": generated, "reference": reference}
    return {
        "contact_factor": contact_factor,
        "share": {
            name: _mean([is_valid(atoms, contact_factor) for atoms in side]) for name, side in sides.items()
        },
        "shortest_contact_a": {
            name: min(shortest_contact(atoms) for atoms in side) for name, side in sides.items()
        },
    }


def _novelty_and_diversity(generated: Sequence[Atoms], reference: Sequence[Atoms]) -> dict[str, Any]:
    elements = tuple(sorted({symbol for atoms in (*generated, *reference) for symbol in atoms.symbols}))
    ours = np.array([fingerprint(atoms, elements) for atoms in generated])
    theirs = np.array([fingerprint(atoms, elements) for atoms in reference])
    nearest = fingerprint_distance(ours[:, None], theirs[None]).min(axis=1)
    sides = {"generated": ours, "reference": theirs}
    return {
        "novelty": {
            "threshold": NOVELTY_THRESHOLD,
            "share": _mean(nearest > NOVELTY_THRESHOLD),
            "mean_distance": _mean(nearest),
            "least_distance": float(nearest.min()),
        },
        "diversity": {name: _pairwise(prints) for name, prints in sides.items()},
    }


def _pairwise(prints: npt.NDArray[np.float64]) -> dict[str, float] | None:
    """Mean and least distance between structures; None for fewer than two."""
    first, second = np.triu_indices(len(prints), k=1)
    if not len(first):
        return None
    distances = fingerprint_distance(prints[first], prints[second])
    return {"mean_distance": _mean(distances), "least_distance": float(distances.min())}


def _rmse(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((first - second) ** 2)))


def _mean(values: npt.ArrayLike) -> float:
    return float(np.mean(np.asarray(values)))


def _text_keys(shares: dict[int, float]) -> dict[str, float]:
    return {str(size): share for size, share in shares.items()}

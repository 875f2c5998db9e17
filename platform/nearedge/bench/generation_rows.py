"""Figures of the bench ``generation``, from structures to rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms

from nearedge.bench import limits
from nearedge.bench.base import Row
from nearedge_services.structures.agreement import (
    CurveAgreement,
    ShareDifference,
    binomial_interval,
    compare_curves,
    compare_shares,
    coordination_shares,
    radial_curves,
)
from nearedge_services.structures.angles import angle_distribution, bond_angles
from nearedge_services.structures.coordination import shortest_contact
from nearedge_services.structures.rings import ring_shares

LIMIT_CONTACT_A = 1.15

RINGS = (3, 4, 5, 6, 7, 8)
_CURVE_POINTS = 120


@dataclass(frozen=True)
class Point:
    """Everything at one size and density; energies in eV per atom."""

    atoms: int
    density_g_cm3: float
    left_out: bool
    raw: list[Atoms]
    failures: int
    seconds: float
    refined: list[Atoms]
    displacements_a: list[float]
    reference: list[Atoms]
    judge: str
    raw_energies: list[float]
    refined_energies: list[float]
    reference_energies: list[float]

    @cached_property
    def contacts_a(self) -> list[float]:
        """Shortest contact of every raw structure, Å."""
        return [shortest_contact(structure) for structure in self.raw]

    @cached_property
    def g_r(self) -> CurveAgreement:
        """g(r) of refined structures against that of references."""
        return compare_curves(radial_curves(self.refined), radial_curves(self.reference))

    @cached_property
    def angles(self) -> CurveAgreement:
        """The same for the distribution of bond angles."""
        return compare_curves(_angle_curves(self.refined), _angle_curves(self.reference))

    @cached_property
    def shares(self) -> ShareDifference:
        """Coordination of refined structures against that of references."""
        return compare_shares(coordination_shares(self.refined), coordination_shares(self.reference))

    def above(self, energies: Sequence[float]) -> float:
        """Median of energies above the median of the references', eV per atom; NaN without either."""
        if not energies or not self.reference_energies:
            return float("nan")
        return float(np.median(energies) - np.median(self.reference_energies))

    def record(self) -> dict[str, Any]:
        """What the JSON keeps."""
        sides = {"raw": self.raw, "refined": self.refined, "reference": self.reference}
        return {
            "atoms": self.atoms,
            "density_g_cm3": self.density_g_cm3,
            "left_out": self.left_out,
            "counts": {name: len(side) for name, side in sides.items()},
            "failures": self.failures,
            "seconds_per_structure": self.seconds / max(len(self.raw) + self.failures, 1),
            "valid_raw": sum(contact >= LIMIT_CONTACT_A for contact in self.contacts_a),
            "shortest_contact_a": min(self.contacts_a, default=float("nan")),
            "g_r": {name: radial_curves(side).mean(axis=0) for name, side in sides.items() if side},
            "g_r_ratio": self.g_r.ratio,
            "g_r_between": self.g_r.between,
            "g_r_within": self.g_r.within,
            "g_r_bias": self.g_r.bias,
            "shares": {name: coordination_shares(side).mean(axis=0) for name, side in sides.items() if side},
            "share_difference_points": self.shares.points,
            "share_error_points": self.shares.error,
            "angles": {name: angle_distribution(side)[1] for name, side in sides.items() if side},
            "angle_ratio": self.angles.ratio,
            "rings": {name: ring_shares(side, max(RINGS)) for name, side in sides.items() if side},
            "judge": self.judge,
            "raw_above_ev_per_atom": self.above(self.raw_energies),
            "refined_above_ev_per_atom": self.above(self.refined_energies),
            "reference_scatter_ev_per_atom": float(np.std(self.reference_energies)),
            "displacement_a": float(np.median(self.displacements_a)) if self.displacements_a else None,
        }


def _angle_curves(structures: Sequence[Atoms]) -> np.ndarray:
    return np.array([angle_distribution([structure])[1] for structure in structures])


def quality_rows(points: Sequence[Point]) -> list[Row]:
    """Rows of all points: contacts together, the rest by size, densities seen in training and left out."""
    rows = [contact_row(points)]
    for atoms in sorted({point.atoms for point in points}):
        same = [point for point in points if point.atoms == atoms]
        for left_out, words in ((False, "densities seen"), (True, "densities left out")):
            group = [point for point in same if point.left_out == left_out]
            if group:
                rows += _group_rows(group, f"{atoms} atoms, {words}")
        rows += _structure_rows(same, f"{atoms} atoms")
    return rows


def contact_row(points: Sequence[Point]) -> Row:
    """Share of raw structures without a contact below 1.15 Å; the baseline is its lower 95 % limit.

    A structure whose sampling failed counts as one that has such a contact.
    """
    contacts = [contact for point in points for contact in point.contacts_a]
    valid = sum(contact >= LIMIT_CONTACT_A for contact in contacts)
    total = len(contacts) + sum(point.failures for point in points)
    low, _ = binomial_interval(valid, total)
    return Row.at_least(
        f"raw structures without a contact below {LIMIT_CONTACT_A} Å, {valid} of {total} (baseline: lower 95 % limit)",
        valid / total,
        limits.VALID_SHARE,
        "share",
        low,
    )


def _group_rows(group: Sequence[Point], words: str) -> list[Row]:
    """Worst of a group of densities, so that a good one cannot hide a bad one."""

    def worst(values: Sequence[float]) -> tuple[float, str]:
        place = int(np.argmax(np.nan_to_num(values, nan=np.inf)))
        return float(values[place]), f"worst of {len(values)}, at {group[place].density_g_cm3:g} g/cm³"

    ratios = [np.nan if point.g_r.ratio is None else point.g_r.ratio for point in group]
    ratio, where_ratio = worst(ratios)
    points, where_points = worst([point.shares.largest for point in group])
    errors = [np.nanmax(point.shares.error) if len(point.reference) > 1 else np.nan for point in group]
    raw, where_raw = worst([point.above(point.raw_energies) for point in group])
    refined, where_refined = worst([point.above(point.refined_energies) for point in group])
    scatter = float(np.median([np.std(point.reference_energies) for point in group]))
    moved = np.median([d for point in group for d in point.displacements_a] or [np.nan])
    judge = group[0].judge
    return [
        Row.at_most(
            f"{words}: g(r), generated–reference over reference–reference ({where_ratio})",
            ratio,
            limits.G_R_RATIO,
            "×",
            1.0,
        ),
        Row.at_most(
            f"{words}: two-, three-, four-fold shares off by ({where_points}; baseline: standard error)",
            points,
            limits.SHARE_POINTS,
            "points",
            float(np.median(errors)),
        ),
        Row.at_most(
            f"{words}: median energy above the reference, raw, {judge} ({where_raw})",
            raw,
            limits.RAW_ENERGY_EV,
            "eV/atom",
            scatter,
        ),
        Row.at_most(
            f"{words}: the same refined ({where_refined}; baselines: scatter of references)",
            refined,
            limits.REFINED_ENERGY_EV,
            "eV/atom",
            scatter,
        ),
        Row.shown(f"{words}: displacement by refinement, root mean square", float(moved), "Å"),
    ]


def _structure_rows(points: Sequence[Point], words: str) -> list[Row]:
    """Bond angles and rings beside the references', all densities together."""
    ours = [atoms for point in points for atoms in point.refined]
    theirs = [atoms for point in points for atoms in point.reference]
    if not ours or not theirs:
        return []
    ratios = [point.angles.ratio for point in points if point.angles.ratio is not None]
    means = [float(np.mean(np.concatenate([bond_angles(a) for a in side]))) for side in (ours, theirs)]
    # Each density counts alike, however many structures it has.
    rings = [
        {size: float(np.mean([_ring(point, side, size) for point in points])) for size in RINGS}
        for side in ("refined", "reference")
    ]
    return [
        Row.shown(
            f"{words}: bond-angle distribution, generated–reference over reference–reference",
            float(np.mean(ratios)) if ratios else None,
            "×",
            1.0,
        ),
        Row.shown(f"{words}: mean bond angle", means[0], "°", means[1]),
        *(
            Row.shown(f"{words}: rings of {size}", rings[0][size], "per atom", rings[1][size])
            for size in RINGS
        ),
    ]


def _ring(point: Point, side: str, size: int) -> float:
    shares = ring_shares(point.refined if side == "refined" else point.reference, max(RINGS))
    return float(shares.get(size, 0.0))


def evaluation_rows(table: Sequence[dict[str, Any]]) -> list[Row]:
    """The table of evaluations against quality, energies as measured, seconds in the words."""
    return [
        Row.shown(
            f"{row['evaluations']} evaluations: raw energy above the reference (g(r) {row['g_r_ratio']:.2f} ×, shares "
            f"off by {row['share_difference_points']:.0f} points, {row['seconds_per_structure']:.2f} s a structure)",
            row["energy_above_reference_ev_per_atom"],
            "eV/atom",
        )
        for row in table
    ]

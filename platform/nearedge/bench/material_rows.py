"""Figures of the bench ``material``, from structures to rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

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
from nearedge_services.structures.angles import bond_angles
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_numbers, shortest_contact
from nearedge_services.structures.validity import CONTACT_FACTOR, is_valid

UNTAUGHT_LOSS = 3.0
"""Of a prior that takes nothing off: one for each direction."""

FOLDS = (3, 4, 5)
"""Numbers of neighbours whose shares are compared: amorphous silicon has hardly any two-fold atom."""
_AGAINST = {"raw": "reference", "refined": "rested", "random": "rested"}
"""Which references an ensemble is compared with."""


def contact_limit_a(unit: str) -> float:
    """Shortest allowed contact in Å of the closest pair of elements, see `validity.CONTACT_FACTOR`."""
    return CONTACT_FACTOR * 2 * float(min(covalent_radii[parse_composition(unit).numbers]))


@dataclass(frozen=True)
class MaterialPoint:
    """Everything at one density; energies in eV per atom, by the oracle."""

    density_g_cm3: float
    left_out: bool
    raw: list[Atoms]
    failures: int
    seconds: float
    refined: list[Atoms]
    displacements_a: list[float]
    reference: list[Atoms]
    """The pipeline's networks of this density, as it made them."""
    rested: list[Atoms]
    """These, refined as generated structures are: what refined ones are compared with."""
    start: list[Atoms]
    """What sampling starts from."""
    random: list[Atoms]
    """That, refined in the same way: what the potential makes of it without a prior."""
    energies: Mapping[str, list[float]]
    """Of ``raw``, ``refined``, ``reference`` and ``rested``."""

    @property
    def sides(self) -> dict[str, list[Atoms]]:
        """The ensembles by name."""
        names = ("raw", "refined", "reference", "rested", "start", "random")
        return {name: getattr(self, name) for name in names}

    @cached_property
    def g_r(self) -> dict[str, CurveAgreement]:
        """g(r) of structures against that of references: raw ones as made, refined and random ones rested."""
        return {
            name: compare_curves(radial_curves(self.sides[name]), radial_curves(self.sides[against]))
            for name, against in _AGAINST.items()
            if self.sides[name] and self.sides[against]
        }

    @cached_property
    def shares(self) -> dict[str, ShareDifference]:
        """The same for the shares of `FOLDS`."""
        return {
            name: compare_shares(*(coordination_shares(self.sides[k], FOLDS) for k in (name, against)))
            for name, against in _AGAINST.items()
            if self.sides[name] and self.sides[against]
        }

    def ratio(self, name: str) -> float:
        """Of `g_r`; NaN where nothing could be refined."""
        found = self.g_r[name].ratio if name in self.g_r else None
        return float("nan") if found is None else found

    def off(self, name: str) -> float:
        """Largest difference of shares in points; NaN where nothing could be refined."""
        return self.shares[name].largest if name in self.shares else float("nan")

    def above(self, name: str) -> float:
        """Median energy of ``raw`` or ``refined`` above that of their references; NaN without either."""
        ours, theirs = self.energies[name], self.energies[_AGAINST[name]]
        return float(np.median(ours) - np.median(theirs)) if ours and theirs else float("nan")

    def valid(self, name: str) -> int:
        """Structures without a contact that is too short."""
        return sum(is_valid(atoms) for atoms in self.sides[name])

    def record(self) -> dict[str, Any]:
        """What the JSON keeps."""
        filled = {name: side for name, side in self.sides.items() if side}
        return {
            "density_g_cm3": self.density_g_cm3,
            "left_out": self.left_out,
            "counts": {name: len(side) for name, side in self.sides.items()},
            "failures": self.failures,
            "seconds_per_structure": self.seconds / max(len(self.raw) + self.failures, 1),
            "valid": {name: self.valid(name) for name in filled},
            "shortest_contact_a": {
                name: min(shortest_contact(atoms) for atoms in side) for name, side in filled.items()
            },
            "g_r": {name: radial_curves(side).mean(axis=0) for name, side in filled.items()},
            "g_r_ratio": {name: self.ratio(name) for name in _AGAINST},
            "g_r_within": {name: found.within for name, found in self.g_r.items()},
            "folds": FOLDS,
            "shares": {name: coordination_shares(side, FOLDS).mean(axis=0) for name, side in filled.items()},
            "share_error_points": {name: found.error for name, found in self.shares.items()},
            "mean_coordination": {name: mean_coordination(side) for name, side in filled.items()},
            "energies_ev_per_atom": dict(self.energies),
            "above_ev_per_atom": {name: self.above(name) for name in ("raw", "refined")},
            "displacement_a": float(np.median(self.displacements_a)) if self.displacements_a else None,
        }


def mean_coordination(structures: Sequence[Atoms]) -> float:
    """Mean number of neighbours of an atom."""
    return float(np.mean(np.concatenate([coordination_numbers(atoms) for atoms in structures])))


def material_rows(
    points: Sequence[MaterialPoint], metrics: Mapping[str, Mapping[str, float]], unit: str
) -> list[Row]:
    """The prior's loss, contacts, densities seen and left out, local order."""
    rows = [
        Row.shown(
            f"prior of {unit}: held-out denoising loss (baseline: nothing learnt)",
            metrics["prior"].get("denoising_loss"),
            "σ² per atom",
            UNTAUGHT_LOSS,
        ),
        _contact_row(points, unit),
    ]
    for left_out, words in ((False, "densities seen"), (True, "density left out")):
        group = [point for point in points if point.left_out == left_out]
        if group:
            rows += _group_rows(group, f"{unit}, {words}")
    return rows + _order_rows(points, unit)


def _contact_row(points: Sequence[MaterialPoint], unit: str) -> Row:
    """Share of raw structures without a short contact, a failed sampling counted as one that has it."""
    valid = sum(point.valid("raw") for point in points)
    total = sum(len(point.raw) + point.failures for point in points)
    low, _ = binomial_interval(valid, total)
    return Row.at_least(
        f"raw structures without a contact below {contact_limit_a(unit):.2f} Å, {valid} of {total} "
        "(baseline: lower 95 % limit)",
        valid / total,
        limits.VALID_SHARE,
        "share",
        low,
    )


def _group_rows(group: Sequence[MaterialPoint], words: str) -> list[Row]:
    """The worst density of a group, its baseline that of the same density."""

    def row(
        text: str,
        value: Callable[[MaterialPoint], float],
        baseline: Callable[[MaterialPoint], float],
        **rest: Any,
    ) -> Row:
        values = np.array([value(point) for point in group])
        worst = int(np.argmax(np.nan_to_num(values, nan=np.inf)))
        where = "" if len(group) == 1 else f"worst of {len(group)}, "
        point = group[worst]
        return Row.at_most(
            f"{words}: {text.format(where=f'{where}{point.density_g_cm3:g} g/cm³')}",
            float(values[worst]),
            baseline=baseline(point),
            **rest,
        )

    return [
        row(
            "g(r), generated–reference over reference–reference ({where}; baseline: random starts refined)",
            lambda point: point.ratio("refined"),
            lambda point: point.ratio("random"),
            limit=limits.G_R_RATIO,
            unit="×",
        ),
        row(
            "three-, four-, five-fold shares off by ({where}; baseline: random starts refined)",
            lambda point: point.off("refined"),
            lambda point: point.off("random"),
            limit=limits.SHARE_POINTS,
            unit="points",
        ),
        row(
            "median energy above the reference, raw ({where}; baseline: scatter of references)",
            lambda point: point.above("raw"),
            lambda point: float(np.std(point.energies["reference"])),
            limit=limits.RAW_ENERGY_EV,
            unit="eV/atom",
        ),
        row(
            "the same, both refined ({where}; baseline: scatter of references)",
            lambda point: point.above("refined"),
            lambda point: float(np.std(point.energies["rested"])),
            limit=limits.REFINED_ENERGY_EV,
            unit="eV/atom",
        ),
    ]


def _order_rows(points: Sequence[MaterialPoint], unit: str) -> list[Row]:
    """Local order beside that of the references, standard errors and what refinement moved, densities together."""
    sides: dict[str, list[Atoms]] = {
        name: [atoms for point in points for atoms in point.sides[name]] for name in points[0].sides
    }
    if not (sides["raw"] and sides["refined"] and sides["rested"]):
        return []
    coordination = {name: mean_coordination(side) for name, side in sides.items() if side}
    contacts = {name: min(map(shortest_contact, side)) for name, side in sides.items() if side}
    angles = [
        float(np.mean(np.concatenate([bond_angles(atoms) for atoms in sides[name]])))
        for name in ("refined", "rested")
    ]
    errors = [np.nanmax(point.shares["refined"].error) for point in points if "refined" in point.shares]
    moved = [distance for point in points for distance in point.displacements_a]
    return [
        Row.shown(f"{unit}: shortest contact, raw", contacts["raw"], "Å", contacts["reference"]),
        Row.shown(f"{unit}: shortest contact, random starts", contacts["start"], "Å", contacts["reference"]),
        Row.shown(
            f"{unit}: shortest contact, random starts refined",
            contacts.get("random"),
            "Å",
            contacts["rested"],
        ),
        Row.shown(f"{unit}: mean coordination, raw", coordination["raw"], "", coordination["reference"]),
        Row.shown(f"{unit}: mean coordination, refined", coordination["refined"], "", coordination["rested"]),
        Row.shown(f"{unit}: mean bond angle, refined", angles[0], "°", angles[1]),
        Row.shown(
            f"{unit}: g(r), raw–reference over reference–reference, worst",
            max(point.ratio("raw") for point in points),
            "×",
            1.0,
        ),
        Row.shown(f"{unit}: standard error of the shares", float(np.median(errors)), "points"),
        Row.shown(f"{unit}: displacement by refinement, root mean square", float(np.median(moved)), "Å"),
    ]

"""What the bench ``oracles`` calculates: crystals by every oracle, networks, and series that should converge.

Sizes are chosen so that all of it takes an hour or two of one core.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ase import Atoms
from ase.build import bulk

NETWORK_ATOMS = 24
NETWORK_DENSITIES_G_CM3 = (1.6, 2.0, 2.3, 2.6, 2.9, 3.3)
"""Of the amorphous networks that the bench makes, and how many it takes from a file."""


@dataclass(frozen=True)
class Case:
    """An oracle as the bench uses it.

    Attributes:
        oracle: its name.
        settings: beside its defaults.
        for_diamond: beside those, for diamond: another mesh of k-points.
        graphite: repeats of the cell of four atoms along its three vectors.
        diamond: repeats of the cube of eight atoms; 0 is the primitive cell.
        absorbers: atoms of both crystals whose mean is shown; None: all.
        network: settings for the amorphous networks, beside the defaults; None: it is not shown them.
        ends: settings, beside the defaults, of the crystals that networks are compared with, where these would not
            be calculated as the networks are with the settings of the case.
        network_absorbers: atoms of each network that it calculates; None: all.
        largest_network: atoms in the largest network it is shown: beyond, a spectrum takes many minutes.
        photon_zero_ev: the photon energy that is its zero; None: a Fermi level is.
    """

    oracle: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    for_diamond: Mapping[str, Any] = field(default_factory=dict)
    graphite: tuple[int, int, int] = (1, 1, 1)
    diamond: int = 0
    absorbers: tuple[int, ...] | None = (0,)
    network: Mapping[str, Any] | None = None
    ends: Mapping[str, Any] | None = None
    network_absorbers: int | None = None
    largest_network: int = 10_000
    photon_zero_ev: float | None = None

    def for_crystal(self, crystal: str) -> dict[str, Any]:
        """The settings for one of `crystals`."""
        own = self.for_diamond if crystal == "diamond" else {}
        return {**self.settings, **own, **chosen_setting(self.absorbers)}

    @property
    def like_networks(self) -> "Case":
        """The case whose crystals the networks are compared with."""
        return self if self.ends is None else replace(self, settings=self.ends, for_diamond={})

    def for_network(self, absorbers: tuple[int, ...] | None) -> dict[str, Any]:
        """The settings for a network of which these atoms are calculated."""
        return {**(self.network or {}), **chosen_setting(absorbers)}

    def crystals(self) -> dict[str, Atoms]:
        """Graphite and diamond."""
        return {"graphite": graphite(self.graphite), "diamond": diamond(self.diamond)}


@dataclass(frozen=True)
class Series:
    """One setting varied on one crystal; the last value is the one that the others are judged by.

    Attributes:
        oracle: its name.
        what: the setting in words, with its unit.
        key: its name; "cell" varies the repeats of the crystal instead.
        values: in the order of convergence.
        settings: the others, beside the defaults.
        crystal: on which.
        cell: its repeats.
        aligned: its members count from different zeros, and are compared with π* in one place.
    """

    oracle: str
    what: str
    key: str
    values: tuple[Any, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    crystal: Literal["graphite", "diamond"] = "graphite"
    cell: Any = None
    aligned: bool = False

    def member(self, value: Any) -> Case:
        """The case of one value."""
        own = dict(self.settings) if self.key == "cell" else {**self.settings, self.key: value}
        case = Case(self.oracle, own, absorbers=None if self.oracle == "xtb" else (0,))
        cell = value if self.key == "cell" else self.cell
        return case if cell is None else replace(case, **{self.crystal: cell})


def chosen_setting(absorbers: tuple[int, ...] | None) -> dict[str, Any]:
    """The oracles' setting for these atoms; nothing for all of them."""
    return {} if absorbers is None else {"absorbers": list(absorbers)}


def graphite(repeats: tuple[int, int, int]) -> Atoms:
    """Graphite with the lattice constants of experiment; four atoms in each cell."""
    from ase.lattice.hexagonal import Graphite

    return Atoms(Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}, size=repeats))


def diamond(repeats: int) -> Atoms:
    """Diamond with the lattice constant of experiment: so many cubes of eight atoms along each axis, or two atoms."""
    return bulk("C", "diamond", 3.567, cubic=True).repeat(repeats) if repeats else bulk("C", "diamond", 3.567)


_SMALL_CLUSTER = {"r_fms_a": 4.5}
"""What FEFF takes of an hour's work; its default takes five times as long."""

CASES: dict[str, Case] = {
    "xtb": Case("xtb", graphite=(9, 9, 1), diamond=3, absorbers=None, network={}),
    "gpaw": Case("gpaw", {"k_points": (16, 16, 1)}, {"k_points": (12, 12, 12)}, network={}),
    "gpaw, full hole": Case(
        "gpaw",
        {"core_hole": "full", "k_points": (2, 2, 1)},
        {"k_points": (2, 2, 2)},
        graphite=(2, 2, 1),
        diamond=1,
        photon_zero_ev=284.0,
    ),
    "feff": Case("feff", network=_SMALL_CLUSTER, ends=_SMALL_CLUSTER, network_absorbers=4),
    "feff, 4.5 Å": Case("feff", _SMALL_CLUSTER),
    "feff, 4.5 Å, no core hole": Case("feff", {**_SMALL_CLUSTER, "core_hole": "none"}),
    "espresso": Case(
        "espresso",
        {"image_distance_a": 4.0},
        network={"cutoff_ry": 30, "k_spacing_per_a": 2.0, "image_distance_a": 0},
        ends={"cutoff_ry": 30},
        network_absorbers=4,
        largest_network=64,
        photon_zero_ev=284.0,
    ),
}
"""What is calculated of crystals, and of networks where a case has settings for them; one of gpaw judges the others."""

SHORT_CASES: dict[str, Case] = {
    "xtb": Case("xtb", graphite=(9, 9, 1), diamond=3, absorbers=None),
    "gpaw, 200 eV": Case("gpaw", {"cutoff_ev": 200, "k_points": (6, 6, 1)}, {"k_points": (5, 5, 5)}),
    "feff, 4.5 Å, l_max 1": Case("feff", {**_SMALL_CLUSTER, "l_max": 1}),
    "espresso, no supercell": Case(
        "espresso", {"image_distance_a": 0, "cutoff_ry": 30}, photon_zero_ev=284.0
    ),
}
"""The crystals alone, cheaply."""

SERIES: tuple[Series, ...] = (
    Series("xtb", "cells along a and b", "cell", ((3, 3, 1), (4, 4, 1), (6, 6, 1), (9, 9, 1))),
    Series("xtb", "core hole", "core_hole", ("initial-state", "z+1"), cell=(4, 4, 1), aligned=True),
    Series("gpaw", "cutoff (eV)", "cutoff_ev", (200, 300, 450), {"k_points": (4, 4, 1)}),
    Series("gpaw", "k-points", "k_points", ((8, 8, 1), (12, 12, 1), (16, 16, 1), (24, 24, 1))),
    Series(
        "gpaw",
        "k-points",
        "k_points",
        ((6, 6, 6), (8, 8, 8), (10, 10, 10), (12, 12, 12)),
        crystal="diamond",
    ),
    Series("gpaw", "k-points along c", "k_points", ((12, 12, 1), (12, 12, 2))),
    Series("gpaw", "bands per atom", "bands_per_atom", (None, 10), {"k_points": (4, 4, 1)}),
    Series(
        "gpaw",
        "core hole",
        "core_hole",
        ("initial-state", "half", "full"),
        {"k_points": (2, 2, 1)},
        cell=(2, 2, 1),
        aligned=True,
    ),
    Series("feff", "l_max", "l_max", (1, 2, 3), _SMALL_CLUSTER),
    Series("feff", "radius that scatters (Å)", "r_fms_a", (3.6, 4.5, 5.5, 6.0)),
    Series("feff", "radius of the potentials (Å)", "r_scf_a", (2.6, 3.6, 4.5), _SMALL_CLUSTER),
    Series("feff", "core hole", "core_hole", ("none", "final-state-rule", "rpa"), _SMALL_CLUSTER),
    Series(
        "feff",
        "core hole",
        "core_hole",
        ("none", "final-state-rule", "rpa"),
        _SMALL_CLUSTER,
        crystal="diamond",
    ),
    Series("feff", "l_max", "l_max", (2, 3), _SMALL_CLUSTER, crystal="diamond"),
    Series("feff", "radius that scatters (Å)", "r_fms_a", (4.5, 5.5, 6.0), crystal="diamond"),
    Series(
        "feff",
        "radius that scatters (Å), l_max 1",
        "r_fms_a",
        (3.6, 4.5, 5.5, 6.5),
        {"l_max": 1},
        crystal="diamond",
    ),
    Series("feff", "radius of the potentials (Å)", "r_scf_a", (3.6, 4.5), _SMALL_CLUSTER, crystal="diamond"),
    Series("espresso", "cutoff (Ry)", "cutoff_ry", (30, 40, 60, 80), {"image_distance_a": 0}),
    Series(
        "espresso",
        "distance of k-points (1/Å)",
        "k_spacing_per_a",
        (0.8, 0.5, 0.35, 0.25),
        {"cutoff_ry": 40, "image_distance_a": 0},
    ),
    Series("espresso", "distance of holes (Å)", "image_distance_a", (0, 4.0), {"cutoff_ry": 40}),
    Series("espresso", "distance of holes (Å), 30 Ry", "image_distance_a", (0, 4.0, 6.0), {"cutoff_ry": 30}),
    Series(
        "espresso",
        "distance of holes (Å), 30 Ry",
        "image_distance_a",
        (0, 4.0, 6.0),
        {"cutoff_ry": 30},
        crystal="diamond",
    ),
)
"""What should converge; the core hole is a choice, and shown with the others."""

"""What a cell is made of, how heavy it is and how large a cube it fills."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from nearedge_db.errors import UserError

AMU_PER_A3_IN_G_CM3 = 1.66053906660  # CODATA 2018 atomic mass constant, 1e-24 g

_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")


@dataclass(frozen=True)
class Composition:
    """Numbers of atoms by element symbol, in the order given.

    Raises UserError for an unknown element, a count below one, or no element at all.
    """

    counts: Mapping[str, int]

    def __post_init__(self) -> None:
        if not self.counts:
            raise UserError(
                "the composition is empty", fix='name elements and counts, as in "C64" or "Si32C32"'
            )
        for symbol, count in self.counts.items():
            if symbol == "X" or symbol not in atomic_numbers:
                raise UserError(
                    "unknown element in the composition",
                    got=symbol,
                    fix="use element symbols such as C or Si",
                )
            if count < 1:
                raise UserError(
                    f"the count of {symbol} must be at least one", got=count, fix="give a positive number"
                )

    def __hash__(self) -> int:
        return hash(self.formula)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Atomic numbers, shape (N,), element by element."""
        elements = np.array([atomic_numbers[symbol] for symbol in self.counts], dtype=np.int64)
        return np.repeat(elements, list(self.counts.values()))

    @property
    def size(self) -> int:
        """Number of atoms, N."""
        return sum(self.counts.values())

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols, in the order given."""
        return tuple(self.counts)

    @property
    def formula(self) -> str:
        """The text that `parse_composition` reads back, e.g. ``Si32C32``."""
        return "".join(f"{symbol}{count}" for symbol, count in self.counts.items())

    @property
    def mass_amu(self) -> float:
        """Total mass in atomic mass units."""
        return float(
            sum(atomic_masses[atomic_numbers[symbol]] * count for symbol, count in self.counts.items())
        )

    def scaled(self, n: int) -> "Composition":
        """The composition of n such cells."""
        if n < 1:
            raise UserError(
                "a composition is scaled by a positive whole number", got=n, fix="give one or more"
            )
        return Composition({symbol: count * n for symbol, count in self.counts.items()})


def parse_composition(text: str) -> Composition:
    """Read ``"C64"`` or ``"Si32C32"``; a missing count is one and repeated elements add up.

    Raises UserError when the text is anything else.
    """
    compact = "".join(text.split())
    terms = _TERM.findall(compact)
    if not terms or "".join(symbol + count for symbol, count in terms) != compact:
        raise UserError(
            "the composition is not readable", got=repr(text), fix='write it like "C64" or "Si32C32"'
        )
    counts: Counter[str] = Counter()
    for symbol, count in terms:
        if count and int(count) == 0:
            raise UserError(
                f"the count of {symbol} must be at least one", got=count, fix="give a positive number"
            )
        counts[symbol] += int(count or 1)
    return Composition(dict(counts))


def cubic_cell(composition: Composition, density_g_cm3: float) -> npt.NDArray[np.float64]:
    """Cell vectors in Å, shape (3, 3), of the cube that holds the composition at that density."""
    if not (np.isfinite(density_g_cm3) and density_g_cm3 > 0):
        raise UserError(
            "the density must be positive", got=f"{density_g_cm3} g/cm³", fix="give it in g/cm³, e.g. 2.6"
        )
    volume_a3 = composition.mass_amu * AMU_PER_A3_IN_G_CM3 / density_g_cm3
    return np.eye(3) * volume_a3 ** (1 / 3)


def density_g_cm3(atoms: Atoms) -> float:
    """Mass density of a cell in g/cm³. Raises UserError when the cell has no volume."""
    volume_a3 = abs(float(np.linalg.det(atoms.cell.array)))
    if volume_a3 == 0:
        raise UserError(
            "the structure has no periodic cell, so no density", fix="give it a cell (extxyz: Lattice=…)"
        )
    return float(atoms.get_masses().sum()) * AMU_PER_A3_IN_G_CM3 / volume_a3

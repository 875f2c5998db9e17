"""What is to be generated: cells with their species, and what of them is given."""

from collections.abc import Sequence
from functools import reduce
from math import gcd, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nearedge.config import MAX_DENSITY_G_CM3
from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.structures.composition import Composition

Array = npt.NDArray[np.float64]

Density = float | tuple[float, float] | Sequence[float]
"""g/cm³: one for all, a range (low, high) that the structures are spread over evenly, or a list."""

LEAST_LENGTH_A = 1.0
"""A cell with two lattice planes closer than this is a mistake, Å."""


def empty_starts(
    composition: "str | Composition",
    *,
    atoms: int | None = None,
    density: Density | None = None,
    cell: npt.ArrayLike | None = None,
    count: int | None = None,
) -> "list[Atoms]":
    """Cells without positions, one per structure.

    ``composition`` as in ``"C64"``; with ``atoms`` its unit is repeated to so many. ``cell``: three lengths or
    a (3, 3) matrix of rows, Å; without it a cube of the ``density`` (g/cm³). With both, the unit of the
    composition is repeated to fill the cell. ``count``: structures (default: 1, or as many as densities are
    listed). Raises UserError when something is missing, contradictory or out of range.
    """
    from ase import Atoms as Structure

    from nearedge_services.structures.composition import Composition, cubic_cell, parse_composition

    content = composition if isinstance(composition, Composition) else parse_composition(composition)
    _check_number(atoms)
    matrix = None if cell is None else cell_matrix(cell)
    if density is None and matrix is None:
        raise UserError(
            "the size of the cell is open", got="neither density nor cell", fix="give one of them"
        )
    if atoms is not None and density is not None and matrix is not None:
        raise UserError(
            "cell, density and number of atoms contradict each other", got="all three", fix="give two of them"
        )
    if atoms is not None:
        content = repeated(content, atoms)
    starts = []
    for value in densities(density, count) if density is not None else [None] * _number(count, 1):
        filling = content if value is None or matrix is None else _filling(content, matrix, value)
        box = matrix if matrix is not None else cubic_cell(filling, float(value or 0))
        starts.append(
            Structure(numbers=filling.numbers, positions=np.zeros((filling.size, 3)), cell=box, pbc=True)
        )
    return starts


def densities(density: Density, count: int | None = None) -> list[float]:
    """One density in g/cm³ per structure: see `Density`; a list is repeated until there are ``count``.

    Raises UserError for a density out of range, a range that descends, or a list whose length does not divide
    the count.
    """
    fix = f"give g/cm³ above 0 and at most {MAX_DENSITY_G_CM3:g}"
    try:
        values = [float(value) for value in ([density] if isinstance(density, int | float) else density)]
    except (TypeError, ValueError) as error:
        raise UserError("the density is not readable", got=repr(density), fix=fix) from error
    if not values or not all(0 < value <= MAX_DENSITY_G_CM3 for value in values):
        raise UserError("the density is out of range", got=repr(density), fix=fix)
    if isinstance(density, tuple):
        return _spread(values, _number(count, 1))
    number = _number(count, len(values))
    if number % len(values):
        raise UserError(
            "the densities do not fill the number of structures evenly",
            got=f"{len(values)} densities, {number} structures",
            fix=f"generate a multiple of {len(values)}",
        )
    return values * (number // len(values))


def _spread(ends: list[float], count: int) -> list[float]:
    if len(ends) != 2 or ends[0] > ends[1]:
        raise UserError(
            "the range of densities is not readable", got=repr(tuple(ends)), fix="give (low, high) in g/cm³"
        )
    return [float(value) for value in np.linspace(ends[0], ends[1], count)] if count > 1 else [sum(ends) / 2]


def repeated(composition: "Composition", atoms: int) -> "Composition":
    """The composition's smallest unit repeated to ``atoms`` atoms: Si32C32 to 16 is Si8C8. UserError if uneven."""
    unit = smallest_unit(composition)
    if atoms % unit.size:
        raise UserError(
            f"{atoms} atoms are no multiple of the unit {unit.formula}",
            got=f"{unit.size} atoms a unit",
            fix=f"give {max(round(atoms / unit.size), 1) * unit.size}",
        )
    return unit.scaled(atoms // unit.size)


def smallest_unit(composition: "Composition") -> "Composition":
    """The same composition with the smallest whole numbers."""
    from nearedge_services.structures.composition import Composition

    divisor = reduce(gcd, composition.counts.values())
    return Composition({symbol: count // divisor for symbol, count in composition.counts.items()})


def cell_matrix(cell: npt.ArrayLike) -> Array:
    """Three lengths or a (3, 3) matrix of rows in Å as a matrix; UserError for anything else or a flat cell."""
    fix = "give three lengths or nine numbers, Å"
    try:
        values = np.array(cell, dtype=float)
    except (TypeError, ValueError) as error:
        raise UserError("the cell is not readable", got=repr(cell), fix=fix) from error
    if values.shape not in {(3,), (3, 3)} or not np.isfinite(values).all():
        raise UserError("the cell is not readable", got=values.tolist(), fix=fix)
    matrix = np.diag(values) if values.ndim == 1 else values
    volume = float(np.linalg.det(matrix))
    faces = [np.linalg.norm(np.cross(matrix[i - 2], matrix[i - 1])) for i in range(3)]
    if not volume > 0 or min(volume / face for face in faces) < LEAST_LENGTH_A:
        raise UserError(
            "the cell is flat, left-handed or too small",
            got=values.tolist(),
            fix="give a right-handed cell, Å",
        )
    return matrix


def inpainting_starts(
    start: "Atoms | str | Path",
    fixed: Sequence[int] | None = None,
    *,
    composition: "str | Composition | None" = None,
    atoms: int | None = None,
    count: int | None = None,
) -> "list[Atoms]":
    """Copies of a periodic structure in which some atoms stay and the others are made anew.

    ``fixed``: indices of those that stay; without it those of the start's boolean array ``fixed`` or its
    ``FixAtoms``. ``atoms``: the number there is to be in the end: so many more, of the unit of ``composition``
    (default: the start's only element), are added, and all of the start stays unless told otherwise.
    Raises UserError when nothing stays, nothing is left to make, or an index is out of range.
    """
    from nearedge_services.structures.composition import Composition, density_g_cm3, parse_composition
    from nearedge_services.structures.fixed import FIXED

    given = read_start(start)
    density_g_cm3(given)  # a structure without a cell is refused here
    _check_number(atoms)
    stays = _staying(given, fixed, everything=atoms is not None)
    clean = type(given)(given.numbers, positions=given.positions, cell=given.cell, pbc=True)
    if atoms is not None:
        elements = set(given.get_chemical_symbols())
        if composition is None and len(elements) > 1:
            raise UserError(
                "it is open what is added to the start", got=sorted(elements), fix="give a composition"
            )
        unit = composition or elements.pop()
        content = unit if isinstance(unit, Composition) else parse_composition(unit)
        if atoms <= len(given):
            raise UserError(
                "the start has that many atoms already",
                got=f"{len(given)} atoms",
                fix="ask for more than these",
            )
        extra = repeated(content, atoms - len(given))
        clean += type(given)(extra.numbers, positions=np.zeros((extra.size, 3)))
        stays = np.concatenate([stays, np.zeros(extra.size, dtype=bool)])
    if not stays.any() or stays.all():
        what = "nothing of the start stays" if not stays.any() else "nothing is left to generate"
        raise UserError(what, got=f"{stays.sum()} of {len(stays)} atoms fixed", fix="name the fixed atoms")
    clean.arrays[FIXED] = stays
    return [clean.copy() for _ in range(_number(count, 1))]


def read_start(start: "Atoms | str | Path") -> "Atoms":
    """The one structure of a file, or the structure itself; UserError for a file with several."""
    from nearedge_services.structures.extxyz import read_structures

    if not isinstance(start, str | Path):
        return start
    frames = read_structures(start)
    if len(frames) > 1:
        raise UserError("the start has several structures", got=f"{len(frames)} in {start}", fix="keep one")
    return frames[0]


def _staying(given: "Atoms", fixed: Sequence[int] | None, everything: bool) -> npt.NDArray[np.bool_]:
    from nearedge_services.structures.fixed import fixed_atoms

    if fixed is None:
        stays = fixed_atoms(given)
        return np.ones(len(given), dtype=bool) if everything and not stays.any() else stays
    indices = np.asarray(fixed)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        raise UserError("the fixed atoms are not readable", got=repr(fixed), fix="give a list of indices")
    outside = [int(index) for index in indices if not 0 <= index < len(given)]
    if outside:
        raise UserError(
            "a fixed atom is not in the start", got=outside[0], fix=f"count from 0 to {len(given) - 1}"
        )
    stays = np.zeros(len(given), dtype=bool)
    stays[indices.astype(int)] = True
    return stays


def _filling(content: "Composition", matrix: Array, density_g_cm3: float) -> "Composition":
    """The composition's unit as often as brings the cell nearest to the density; UserError if not even once."""
    from nearedge_services.structures.composition import AMU_PER_A3_IN_G_CM3

    unit = smallest_unit(content)
    mass_amu = density_g_cm3 * float(np.linalg.det(matrix)) / AMU_PER_A3_IN_G_CM3
    times = round(mass_amu / unit.mass_amu)
    if times < 1:
        raise UserError(
            "the cell is too small for its density", got=f"{density_g_cm3:g} g/cm³", fix="give a larger cell"
        )
    return unit.scaled(times)


def _check_number(atoms: int | None) -> None:
    if atoms is not None and (not isfinite(atoms) or atoms != int(atoms) or atoms < 1):
        raise UserError("the number of atoms must be one or more", got=atoms, fix="give a whole number")


def _number(count: int | None, default: int) -> int:
    if count is None:
        return default
    if count != int(count) or count < 1:
        raise UserError("the number of structures must be one or more", got=count, fix="give a whole number")
    return int(count)

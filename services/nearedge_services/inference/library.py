"""Networks of known density with their spectra: what an inference learns from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from ase import Atoms

from nearedge_db.errors import UserError
from nearedge_services.spectra.distance import area_normalised
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.labelled import label_cell_means
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.coordination import coordination_fractions

Array = npt.NDArray[np.float64]

SHARES = (2, 3, 4)
"""Numbers of neighbours whose shares are inferred, in the order of the columns."""


@dataclass(frozen=True, eq=False)
class Library:
    """Networks as numbers."""

    grid: EnergyGrid
    spectra: Array
    """Area-normalised cell means, (n, G), 1/eV."""
    densities_g_cm3: Array
    """(n,)."""
    shares: Array
    """Of absorbers with two, three and four neighbours, (n, 3)."""
    groups: tuple[str, ...]
    """Frames of one network share it."""

    def __len__(self) -> int:
        return len(self.spectra)

    def subset(self, rows: Sequence[int]) -> "Library":
        """The library of these rows."""
        chosen = list(rows)
        return Library(
            self.grid,
            self.spectra[chosen],
            self.densities_g_cm3[chosen],
            self.shares[chosen],
            tuple(self.groups[k] for k in chosen),
        )

    def in_window(self, mask: npt.NDArray[np.bool_]) -> "Library":
        """The library cut to the grid points (G,) of a contiguous window, spectra renormalised to unit area there.

        Raises ValueError when a spectrum has no positive area in the window.
        """
        inside = np.flatnonzero(mask)
        energies = self.grid.energies[inside]
        grid = EnergyGrid(float(energies[0]), float(energies[-1]), self.grid.step_ev)
        spectra = area_normalised(self.spectra[:, inside], grid.weights)
        return replace(self, grid=grid, spectra=spectra)


def library_of(frames: Sequence[Atoms], absorber: str) -> Library:
    """The library of labelled structures; ``info["group"]`` keeps frames of one network together.

    Raises UserError for structures without spectra, without the absorber, or on different energy grids.
    """
    grid, means = label_cell_means(frames, absorber)
    return library_from(frames, means, grid, absorber)


def library_from(frames: Sequence[Atoms], spectra: Array, grid: EnergyGrid, absorber: str) -> Library:
    """The library of structures whose cell-mean spectra (n, G) come from elsewhere, such as a surrogate."""
    fractions = [coordination_fractions(atoms, absorber) for atoms in frames]
    return Library(
        grid=grid,
        spectra=np.asarray(spectra, dtype=float),
        densities_g_cm3=np.array([density_g_cm3(atoms) for atoms in frames]),
        shares=np.array([[shares[number] for number in SHARES] for shares in fractions]),
        groups=tuple(str(atoms.info.get("group", f"{k}")) for k, atoms in enumerate(frames)),
    )


def joined(first: Library, second: Library) -> Library:
    """Both libraries in one; their groups stay apart (those of the first get a prefix). UserError for two grids."""
    if first.grid != second.grid:
        raise UserError(
            "two libraries of spectra have different energy grids",
            got=f"{first.grid} and {second.grid}",
            fix="label both with the same settings",
        )
    return Library(
        first.grid,
        np.concatenate([first.spectra, second.spectra]),
        np.concatenate([first.densities_g_cm3, second.densities_g_cm3]),
        np.concatenate([first.shares, second.shares]),
        (*(f"start-{group}" for group in first.groups), *second.groups),
    )


def write_library(path: str | Path, library: Library) -> None:
    """Write a library (.npz): four bytes for each point of a spectrum."""
    np.savez_compressed(
        path,
        grid=np.array(list(asdict(library.grid).values())),
        spectra=library.spectra.astype(np.float32),
        densities_g_cm3=library.densities_g_cm3,
        shares=library.shares,
        groups=np.array(library.groups),
    )


def read_library(path: str | Path) -> Library:
    """What `write_library` wrote. Raises UserError for a file that is missing or something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            start, stop, step = (float(value) for value in stored["grid"])
            return Library(
                EnergyGrid(start, stop, round(step, 6)),
                stored["spectra"].astype(float),
                stored["densities_g_cm3"].astype(float),
                stored["shares"].astype(float),
                tuple(str(group) for group in stored["groups"]),
            )
    except FileNotFoundError:
        raise UserError("the library does not exist", got=path, fix="name one that does") from None
    except (KeyError, ValueError, OSError, BadZipFile) as error:
        raise UserError("the file holds no library of spectra", got=path, fix="write it again") from error

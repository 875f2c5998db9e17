"""Structures whose spectra follow a rule that is known: carbon on lattices, labelled by coordination."""

import numpy as np
from ase import Atoms
from ase.build import bulk

from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum
from nearedge_services.spectra.target import Target
from nearedge_services.structures.coordination import coordination_numbers

GRID = EnergyGrid(0.0, 20.0, 0.5)


def rule(coordination: np.ndarray) -> np.ndarray:
    """(N, G) spectra: a low peak that fades and a high peak that grows with the coordination number."""
    low = np.exp(-0.5 * ((GRID.energies - 4) / 1.5) ** 2)
    high = np.exp(-0.5 * ((GRID.energies - 13) / 2.5) ** 2)
    share = np.clip(4 - coordination, 0, 4)[:, None] / 3
    return 3.7 * (share * low + (1.2 - share / 2) * high)


def network(seed: int) -> Atoms:
    """Rattled diamond with vacancies, 12 to 15 atoms: mostly two-, three- and four-fold carbon."""
    rng = np.random.default_rng(seed)
    atoms = bulk("C", "diamond", a=3.57, cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell * rng.uniform(0.98, 1.04), scale_atoms=True)
    del atoms[rng.choice(len(atoms), size=int(rng.integers(1, 5)), replace=False).tolist()]
    atoms.positions += rng.normal(0, 0.04, atoms.positions.shape)
    return atoms


def label(atoms: Atoms, group: str) -> Atoms:
    """The structure in the labelled convention, by the rule."""
    labelled = atoms.copy()
    labelled.arrays["xanes"] = rule(coordination_numbers(atoms))
    labelled.info |= {"xanes_energies": GRID.energies.copy(), "group": group}
    return labelled


def labelled_networks(count: int, first: int = 0) -> list[Atoms]:
    """Independent labelled networks."""
    return [label(network(seed), f"network-{seed}") for seed in range(first, first + count)]


def target(share: float = 0.5, absorber: str = "C") -> Target:
    """Target between the spectra of three- and four-fold atoms."""
    three, four = rule(np.array([3, 4]))
    return Target.from_spectrum(Spectrum(GRID.energies, share * three + (1 - share) * four), GRID, absorber)

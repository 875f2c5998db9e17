"""A training set made ready once: graphs, the elements' own energies, targets, and draws of batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from nearedge_db.errors import UserError
from nearedge_services.potential.graphs import Graph, graph_of

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class TrainingSet:
    """Graphs with their targets: interaction energies per atom (B,) eV and forces, one (N,3) each, eV/Å."""

    graphs: list[Graph]
    energies_per_atom: torch.Tensor
    forces: list[torch.Tensor]
    groups: list[str]

    @property
    def mean_neighbours(self) -> float:
        """Mean number of neighbours of an atom within the cutoff."""
        return sum(graph.edges.shape[1] for graph in self.graphs) / sum(graph.size for graph in self.graphs)

    @property
    def force_scale(self) -> float:
        """Root mean square force component, eV/Å."""
        return float(torch.cat(self.forces).square().mean().sqrt())


def labelled_frames(structures: Sequence["Atoms"], max_force_ev_per_a: float = np.inf) -> list["Atoms"]:
    """Those frames whose forces are bounded; UserError for a frame without finite energy and forces, or
    none left.
    """
    for index, atoms in enumerate(structures):
        energy, forces = atoms.info.get("REF_energy"), atoms.arrays.get("REF_forces")
        if energy is None or forces is None or not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise UserError(
                "a structure has no finite REF_energy (eV) and REF_forces (eV/Å)",
                got=f"structure {index}, {atoms.get_chemical_formula()}",
                fix="label it first with `nearedge label`",
            )
    kept = [
        a for a in structures if np.linalg.norm(a.arrays["REF_forces"], axis=1).max() <= max_force_ev_per_a
    ]
    if not kept:
        raise UserError(
            "no labelled structures to learn the potential from",
            got=f"{len(structures)} structures, none with forces below {max_force_ev_per_a} eV/Å",
            fix="label more structures, or raise max_force_ev_per_a",
        )
    return kept


def own_energies(structures: Sequence["Atoms"], elements: Sequence[int]) -> tuple[float, ...]:
    """Energy of every element, eV, such that their sums fit the total energies best.

    The least-squares solution of smallest norm: where compositions do not tell the elements apart (a single
    stoichiometry), they share the energy in proportion to their counts.
    """
    counts = np.array([[np.sum(atoms.numbers == z) for z in elements] for atoms in structures], dtype=float)
    energies = np.array([atoms.info["REF_energy"] for atoms in structures], dtype=float)
    solution, *_ = np.linalg.lstsq(counts, energies, rcond=None)
    return tuple(float(value) for value in solution)


def training_set(
    structures: Sequence["Atoms"], elements: Sequence[int], energies_ev: Sequence[float], cutoff_a: float
) -> TrainingSet:
    """Neighbour lists and targets of labelled structures, computed once."""
    table = dict(zip(elements, energies_ev, strict=True))
    residuals = [(a.info["REF_energy"] - sum(table[int(z)] for z in a.numbers)) / len(a) for a in structures]
    return TrainingSet(
        graphs=[graph_of(atoms, elements, cutoff_a) for atoms in structures],
        energies_per_atom=torch.tensor(residuals, dtype=torch.float32),
        forces=[torch.tensor(atoms.arrays["REF_forces"], dtype=torch.float32) for atoms in structures],
        groups=[str(atoms.info.get("group", index)) for index, atoms in enumerate(structures)],
    )


def bootstrap(groups: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Indices of the frames of as many groups as there are, drawn with replacement; all frames for fewer
    than 5.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 5:
        return list(range(len(groups)))
    members = {name: [i for i, group in enumerate(groups) if group == name] for name in names}
    return [i for k in rng.integers(len(names), size=len(names)) for i in members[names[int(k)]]]


def batches(indices: Sequence[int], size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Endless batches of `size` indices; every index once per epoch, in a new order each time."""
    pool = np.asarray(indices, dtype=np.int64)
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, rng.permutation(pool)])
        yield queue[:size]
        queue = queue[size:]

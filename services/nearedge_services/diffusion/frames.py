"""Which structures a training step sees."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from ase import Atoms

Array = npt.NDArray[np.float64]


def frame_weights(frames: Sequence[Atoms], temperature_ev: float) -> Array:
    """How often each frame is drawn, (F,), sum one.

    Frames with one ``info["group"]`` share a group's weight, and all groups weigh the same: many frames of
    one network do not outvote the others. Within a group, frames with ``REF_energy`` weigh
    exp(−ΔE/temperature), with ΔE in eV per atom above the lowest of the group: early frames of a relaxation
    count little.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        groups[str(atoms.info.get("group", f"frame {index}"))].append(index)
    weights = np.zeros(len(frames))
    for members in groups.values():
        energies = np.array([frames[k].info.get("REF_energy", np.nan) / len(frames[k]) for k in members])
        above = energies - np.min(energies) if np.isfinite(energies).all() else np.zeros(len(members))
        relative = np.exp(-above / temperature_ev)
        weights[members] = relative / relative.sum() / len(groups)
    return weights


class FrameDraws:
    """Endless draws of frames for training steps.

    All structures of one step have the same number of atoms: the network then works with matrices per cell.
    """

    def __init__(
        self, frames: Sequence[Atoms], weights: Array, atoms_per_step: int, rng: np.random.Generator
    ) -> None:
        self.rng = rng
        self.weights = weights
        self.atoms_per_step = atoms_per_step
        self.counts = np.array([len(atoms) for atoms in frames])
        self.sizes = np.unique(self.counts)
        self.size_weights = np.array([weights[self.counts == size].sum() for size in self.sizes])

    def draw(self) -> npt.NDArray[np.int64]:
        """Indices of the frames of one step; a frame may come twice, with other noise."""
        size = self.rng.choice(self.sizes, p=self.size_weights / self.size_weights.sum())
        of_size = np.flatnonzero(self.counts == size)
        weights = self.weights[of_size] / self.weights[of_size].sum()
        count = max(round(self.atoms_per_step / size), 1)
        # one draw in each equal part of the cumulative weight: as even as random draws can be
        edges = (np.arange(count) + self.rng.random(count)) / count
        return of_size[np.minimum(np.searchsorted(np.cumsum(weights), edges), len(of_size) - 1)]

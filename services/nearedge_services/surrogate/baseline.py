"""Spectra as if only the coordination number mattered: the error every surrogate has to beat."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.surrogate.dataset import LabelledStructure
from nearedge_services.surrogate.network import MAX_COORDINATION


def _classes(atoms: Atoms) -> Tensor:
    """Coordination number of every atom (N,) int64, the largest ones together."""
    return torch.as_tensor(np.minimum(coordination_numbers(atoms), MAX_COORDINATION), dtype=torch.int64)


def coordination_means(
    structures: Sequence[LabelledStructure], species: Sequence[Tensor], means: Tensor
) -> Tensor:
    """Mean spectrum (S, C, G) of the labelled atoms of each element and coordination number, dimensionless.

    Where there is no such atom, the element's mean ``means`` (S, G).
    """
    n_classes = MAX_COORDINATION + 1
    spectra = torch.cat([structure.spectra[structure.labelled] for structure in structures])
    slots = torch.cat(
        [
            (kinds * n_classes + _classes(structure.atoms))[structure.labelled]
            for kinds, structure in zip(species, structures, strict=True)
        ]
    )
    n_slots = len(means) * n_classes
    counts = torch.bincount(slots, minlength=n_slots)[:, None]
    sums = torch.zeros(n_slots, spectra.shape[1]).index_add(0, slots, spectra)
    table = torch.where(counts > 0, sums / counts.clamp_min(1), means.repeat_interleave(n_classes, dim=0))
    return table.reshape(len(means), n_classes, -1)


def baseline_spectra(table: Tensor, atoms: Atoms, species: Tensor) -> Tensor:
    """Spectra (N, G) from the ``coordination_means`` table (S, C, G)."""
    return table[species, _classes(atoms).to(species.device)]

"""What the networks predict: amounts of the principal components of the training spectra.

A few dozen numbers instead of a whole curve learn faster from few labels, and the curves keep the oracle's
broadening.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearedge_services.surrogate.dataset import LabelledStructure

#: Sharpness of the softplus that keeps intensities positive: it adds at most ln 2 / 20 = 0.035 mean
#: intensities.
POSITIVITY = 20.0


@dataclass(frozen=True)
class Basis:
    """Mean spectrum of each element and the common principal components.

    Attributes:
        means: (S, G), dimensionless; the overall mean for an element without labels.
        components: (K, G), each scaled by the standard deviation of its amount in the training spectra.
    """

    means: Tensor
    components: Tensor

    def spectra(self, amounts: Tensor, species: Tensor) -> Tensor:
        """Non-negative spectra (N, G) from amounts (N, K) and species (N,)."""
        return non_negative(torch.addmm(self.means[species], amounts, self.components))


def non_negative(spectra: Tensor) -> Tensor:
    """The same spectra, dimensionless, smoothly kept above zero."""
    return nn.functional.softplus(spectra, beta=POSITIVITY)


def fit_basis(
    structures: Sequence[LabelledStructure], species: Sequence[Tensor], n_elements: int, size: int
) -> Basis:
    """Basis of at most ``size`` components from the labelled atoms; ``species`` gives (N,) per structure."""
    spectra = torch.cat([structure.spectra[structure.labelled] for structure in structures]).double()
    kinds = torch.cat([kind[structure.labelled] for kind, structure in zip(species, structures, strict=True)])
    overall = spectra.mean(0)
    means = torch.stack(
        [
            spectra[kinds == kind].mean(0) if bool((kinds == kind).any()) else overall
            for kind in range(n_elements)
        ]
    )
    deviations = spectra - means[kinds]
    covariance = deviations.T @ deviations / len(deviations)
    values, vectors = torch.linalg.eigh(covariance)
    order = torch.argsort(values, descending=True)[:size]
    # eigenvectors have no sign of their own: fix it, so that a seed gives the same model everywhere
    signs = torch.sign(vectors[vectors.abs().argmax(0), torch.arange(len(values))])
    components = (vectors * signs)[:, order].T * values[order].clamp_min(1e-8).sqrt()[:, None]
    return Basis(means.float(), components.float())

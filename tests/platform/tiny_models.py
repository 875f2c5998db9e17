"""Untrained models that are small enough to generate with in a moment."""

import numpy as np
import torch

from nearedge_services.diffusion.condition import ConditionSpace
from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.potential.network import build_network
from nearedge_services.potential.potential import Potential
from nearedge_services.potential.settings import Architecture
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.surrogate.calibration import Calibration, IntervalScale
from nearedge_services.surrogate.network import SpectrumNetwork
from nearedge_services.surrogate.settings import SurrogateSettings
from nearedge_services.surrogate.surrogate import Surrogate

GRID = EnergyGrid()

PRIOR = {"n_scalar": 16, "n_vector": 6, "n_radial": 6, "n_layers": 1, "cutoff_a": 3.0}

SURROGATE = SurrogateSettings(
    tight_binding=False, members=2, channels=8, vectors=3, radial=6, layers=1, cutoff_a=3.0, components=2,
    noise_aware_channels=8, noise_aware_vectors=3, noise_aware_layers=1, noise_aware_cutoff_a=3.0,
)  # fmt: skip

ARCHITECTURE = Architecture(
    elements=(6,), isolated_energies_ev=(-50.0,), scale_ev=0.3, message_norm=3.0, cutoff_a=3.0, channels=4,
    max_ell=1, correlation=1, interactions=1, radial_functions=4, radial_layers=(8,), readout_channels=4,
    core_repulsion=True,
)  # fmt: skip


def bump(centre):
    """A peak on the grid, (G,)."""
    return np.exp(-0.5 * ((GRID.energies - centre) / 4) ** 2)


def write_models(folder, conditional=False):
    """``prior/``, ``surrogate/`` and ``potential/`` in a folder, for carbon; the folder.

    ``conditional``: the prior takes spectra, and the surrogate noisy positions.
    """
    torch.manual_seed(0)
    space = ConditionSpace(GRID, "C") if conditional else None
    prior = Prior(("C",), PriorSettings(**PRIOR, spectrum_components=2 if conditional else 0), space)
    if prior.condition is not None:
        rows = np.stack([bump(centre) / bump(centre).sum() / 0.25 for centre in (6.0, 10.0, 14.0)])
        prior.condition.fit(rows, np.ones(3))
        with torch.no_grad():  # an untrained network does not listen to its conditions
            for weights in prior.parameters():
                weights.add_(0.1 * torch.randn_like(weights))
    prior.save(folder / "prior")
    settings = SURROGATE.model_copy(update={"noise_aware_steps": 1 if conditional else 0})
    network = SpectrumNetwork(settings, ("C",), GRID)
    network.means[0] = torch.as_tensor(bump(12.0))
    network.components[0] = torch.as_tensor(bump(6.0))
    interval = IntervalScale(factor=1.0, floor=1e-3)
    calibration = Calibration(spectrum=interval, distance=interval, excess=0.5, structures=5)
    Surrogate(network, settings, ("C",), ("C",), GRID, calibration).save(folder / "surrogate")
    Potential(ARCHITECTURE, [build_network(ARCHITECTURE, seed=0)]).save(folder / "potential")
    return folder

"""One MACE network built from its architecture, and what it says about a batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nearedge_services.potential.mace_library import mace_modules, quiet
from nearedge_services.potential.settings import Architecture

if TYPE_CHECKING:
    from e3nn import o3


def build_network(architecture: Architecture, seed: int) -> torch.nn.Module:
    """A `ScaleShiftMACE` in float32 with initial weights drawn from `seed`; torch's global generator is
    left alone.

    The elements' own energies are kept outside of the network, in float64: they are a thousand times larger
    than the differences that matter.
    """
    modules = mace_modules()
    from e3nn import o3

    blocks = modules.interaction_classes
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = modules.ScaleShiftMACE(
            r_max=architecture.cutoff_a,
            num_bessel=architecture.radial_functions,
            num_polynomial_cutoff=5,
            max_ell=architecture.max_ell,
            interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
            num_interactions=architecture.interactions,
            num_elements=len(architecture.elements),
            hidden_irreps=_messages(architecture),
            MLP_irreps=o3.Irreps(f"{architecture.readout_channels}x0e"),
            atomic_energies=np.zeros(len(architecture.elements)),
            avg_num_neighbors=architecture.message_norm,
            atomic_numbers=list(architecture.elements),
            correlation=architecture.correlation,
            gate=torch.nn.functional.silu,
            pair_repulsion=architecture.core_repulsion,
            use_reduced_cg=False,
            radial_MLP=list(architecture.radial_layers),
            atomic_inter_scale=architecture.scale_ev,
            atomic_inter_shift=0.0,
        )
    if architecture.core_repulsion:
        # MACE scales the repulsion with the rest of the energy; it is in eV already
        network.pair_repulsion_fn.c.div_(architecture.scale_ev)
    return network


def _messages(architecture: Architecture) -> "o3.Irreps":
    """As many vectors (and so on) as scalars: MACE's products need the same number of each order."""
    from e3nn import o3

    parities = "eo"
    orders = range(architecture.message_ell + 1)
    return o3.Irreps("+".join(f"{architecture.channels}x{ell}{parities[ell % 2]}" for ell in orders))


@dataclass(frozen=True)
class Output:
    """Interaction energies (B,) and per atom (N,), eV, without the elements' own energies; forces (N,3),
    eV/Å.
    """

    energies: torch.Tensor
    atom_energies: torch.Tensor
    forces: torch.Tensor


def run_network(network: torch.nn.Module, batch: dict[str, torch.Tensor], training: bool = False) -> Output:
    """Energies and forces of a collated batch; with `training` they can be differentiated again."""
    result = network(batch, training=training)
    return Output(
        energies=result["interaction_energy"],
        atom_energies=result["node_energy"],  # the network's own element energies are zero
        forces=result["forces"],
    )

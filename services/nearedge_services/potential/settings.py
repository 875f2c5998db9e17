"""What a potential is made of and how it is trained."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Architecture(BaseModel):
    """One MACE network, completely: what the JSON config beside the weights says. Units: eV, Å."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    elements: tuple[int, ...]
    """Atomic numbers, ascending."""
    isolated_energies_ev: tuple[float, ...]
    """Energy that each element contributes by itself, eV: least squares over the training set."""
    scale_ev: float = Field(gt=0)
    """Unit of the network's output, eV, chosen so that an untrained network has forces of a sensible size."""
    message_norm: float = Field(gt=0)
    """By what the sum over neighbours is divided: the square root of their mean number, as for a sum of
    independent terms. MACE's own choice, the number itself, starts with features so small that training is
    slow."""
    cutoff_a: float = Field(gt=0)
    channels: int = Field(gt=0)
    message_ell: int = Field(default=0, ge=0, le=2)
    max_ell: int = Field(ge=0, le=3)
    correlation: int = Field(ge=1, le=3)
    interactions: int = Field(ge=1, le=3)
    radial_functions: int = Field(gt=0)
    radial_layers: tuple[int, ...]
    readout_channels: int = Field(gt=0)
    core_repulsion: bool
    """Add the Ziegler–Biersack–Littmark repulsion between atoms closer than their covalent radii.
    """


class PotentialSettings(BaseModel):
    """Settings of `train_potential`. A step sees `batch_structures` structures; two passes over the labels,
    energies and forces, make its loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(default=2, ge=1)
    """Networks in the committee; they differ by their initial weights and by the groups they see."""
    cutoff_a: float = Field(default=4.0, gt=0)
    """Range of one message, Å."""
    channels: int = Field(default=16, gt=0)
    message_ell: int = Field(default=0, ge=0, le=2)
    """Highest order of what atoms tell each other: 0 for scalars, 1 for vectors beside them. Without effect where
    `interactions` is 1."""
    max_ell: int = Field(default=2, ge=0, le=3)
    correlation: int = Field(default=3, ge=1, le=3)
    interactions: int = Field(default=1, ge=1, le=3)
    radial_functions: int = Field(default=8, gt=0)
    radial_layers: tuple[int, ...] = (32, 32)
    readout_channels: int = Field(default=16, gt=0)
    core_repulsion: bool = True
    """Ziegler–Biersack–Littmark repulsion: keeps atoms apart where there are no training data."""

    steps: int = Field(default=1400, ge=1)
    """Optimiser steps of a training from scratch, per member."""
    warm_steps: int = Field(default=200, ge=1)
    """Optimiser steps of a training that starts from an earlier potential, per member."""
    batch_structures: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=0.02, gt=0)
    warm_learning_rate: float = Field(default=0.005, gt=0)
    loss: Literal["robust", "squares"] = "robust"
    energy_weight: float = Field(default=5.0, ge=0)
    """Weight of the error of the energy per atom (eV)."""
    force_weight: float = Field(default=1.0, ge=0)
    """Weight of the error of the force vector (eV/Å)."""
    max_force_ev_per_a: float = Field(default=60.0, gt=0)
    """Training frames with a larger force are left out: they say little about where atoms rest."""
    average_decay: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights that becomes the model."""
    max_gradient_norm: float = Field(default=10.0, gt=0)
    bootstrap: bool = True
    """Draw the groups of every member with replacement."""

"""The numbers that decide what a surrogate is and how it learns."""

from pydantic import BaseModel, ConfigDict, Field


class SurrogateSettings(BaseModel):
    """Settings of one training. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tight_binding: bool = Field(
        True,
        description="Spectra from a learnt minimal-basis Hamiltonian, corrected by components; elements with s "
        "and p valence electrons. false: components alone.",
    )
    members: int = Field(3, ge=2, description="Networks in the ensemble; their scatter is the uncertainty.")
    guidance_members: int = Field(
        1, ge=1, description="Networks used where gradients are wanted (the first ones)."
    )
    channels: int = Field(32, ge=4, description="Scalar channels per atom.")
    vectors: int = Field(8, ge=1, description="Vector channels per atom.")
    radial: int = Field(10, ge=2, description="Radial functions.")
    layers: int = Field(1, ge=1, description="Message-passing layers.")
    cutoff_a: float = Field(3.5, gt=0.5, description="Range of one layer, Å.")
    components: int = Field(
        24, ge=1, description="Principal components of the training spectra that are predicted."
    )
    steps: int = Field(400, ge=1, description="Optimiser steps per member, training from nothing.")
    refine_steps: int = Field(
        150, ge=1, description="Optimiser steps per member, training from earlier weights."
    )
    batch_atoms: int = Field(160, ge=1, description="Atoms per step (whole structures; at least one).")
    learning_rate: float = Field(5e-3, gt=0, description="AdamW peak rate, training from nothing.")
    refine_learning_rate: float = Field(
        1.5e-3, gt=0, description="AdamW peak rate, training from earlier weights."
    )
    weight_decay: float = Field(1e-4, ge=0, description="AdamW weight decay.")
    gradient_clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    ema: float = Field(0.99, ge=0, lt=1, description="Decay of the averaged weights, which are what is kept.")
    jitter_min_a: float = Field(0.0, ge=0, description="Smallest position noise on a training structure, Å.")
    jitter_max_a: float = Field(0.0, ge=0, description="Largest position noise on a training structure, Å.")
    cell_mean_weight: float = Field(
        0.2, ge=0, description="Weight of the cell-mean error beside the per-atom error."
    )
    bootstrap: float = Field(
        1.0,
        ge=0,
        le=1,
        description="0: all members see groups equally often; 1: full Bayesian bootstrap over groups.",
    )

    noise_aware_steps: int = Field(
        0, ge=0, description="Optimiser steps of the network for noisy positions; 0: no such network."
    )
    noise_aware_learning_rate: float = Field(3e-3, gt=0, description="Its AdamW peak rate.")
    noise_aware_cell_mean_weight: float = Field(
        3.0, ge=0, description="Weight of its cell-mean error: noise hides single atoms, the mean guides."
    )
    noise_aware_channels: int = Field(48, ge=4, description="Its scalar channels.")
    noise_aware_vectors: int = Field(16, ge=1, description="Its vector channels.")
    noise_aware_layers: int = Field(2, ge=1, description="Its message-passing layers.")
    noise_aware_cutoff_a: float = Field(4.0, gt=0.5, description="Range of one of its layers, Å.")

"""What decides how a prior is built, trained and sampled."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PriorSettings(BaseModel):
    """Sizes and training of the prior; defaults fit a few dozen networks and two minutes of one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_scalar: int = Field(default=64, ge=4, description="scalar channels")
    n_vector: int = Field(default=24, ge=3, description="vector channels")
    n_radial: int = Field(default=16, ge=4, description="radial functions")
    n_layers: int = Field(default=3, ge=1, description="message-passing layers")
    cutoff_a: float = Field(default=4.5, gt=1.0, description="neighbour cutoff in Å")

    spectrum_components: int = Field(
        default=0, ge=0, description="principal components of the cell-mean spectrum told to it, 0: none"
    )
    spectrum_dropout: float = Field(
        default=0.15, ge=0, le=1, description="share of training structures whose spectrum is left out"
    )
    spectrum_noise: float = Field(
        default=0.3,
        ge=0,
        description="noise on the spectrum told in training, in standard deviations of each component",
    )
    spectrum_absorber: str | None = Field(
        default=None, description="element whose spectra are meant; without: the only one that has spectra"
    )

    steps: int = Field(default=3000, ge=1, description="optimiser steps")
    atoms_per_step: int = Field(
        default=192, ge=1, description="atoms in one training step, one structure at least"
    )
    learning_rate: float = Field(
        default=3e-3, gt=0, description="peak learning rate of AdamW, cosine decay to zero"
    )
    warm_learning_rate: float = Field(
        default=1e-3, gt=0, description="the same when the training starts from a prior"
    )
    weight_decay: float = Field(default=1e-3, ge=0)
    warmup_steps: int = Field(
        default=100, ge=0, description="steps of linear warm-up, at most a tenth of the training"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(
        default=0.998, ge=0, lt=1, description="decay of the averaged weights, which are what is kept"
    )

    sigma_min_a: float = Field(default=0.03, gt=0, description="least noise in Å")
    sigma_max_a: float = Field(default=0.9, gt=0, description="largest noise in Å")
    sigma_median_a: float = Field(
        default=0.2, gt=0, description="median of the noise levels seen in training, Å"
    )
    sigma_spread: float = Field(
        default=0.7, gt=0, description="standard deviation of the logarithm of the noise level"
    )
    position_jitter_a: float = Field(
        default=0.0, ge=0, description="noise added to the training positions themselves, Å"
    )

    energy_temperature_ev: float = Field(
        default=0.05,
        gt=0,
        description="frames of one group weigh exp(−ΔE/this), ΔE per atom above the group's lowest",
    )
    evaluation_draws: int = Field(default=4, ge=1, description="noise levels per held-out structure")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.sigma_min_a < self.sigma_median_a < self.sigma_max_a:
            raise ValueError("sigma_min_a < sigma_median_a < sigma_max_a must hold")
        return self


class SamplerSettings(BaseModel):
    """The way from random positions to a structure; noise levels in Å.

    Stochastic Euler steps after Karras et al., "Elucidating the design space of diffusion-based generative
    models", NeurIPS 2022, algorithm 2 without its second-order correction, but for three things. ``churn_noise`` is
    their S_noise; of the noise that a step should leave it keeps only the share ``rest``, new noise comes with
    the next churn; and both change on the way. All at 1 sample the model's distribution. With more the walk is
    hotter. With less each step takes more noise off than it added and the walk is colder: cold throughout it orders
    structures beyond those learnt from, hot throughout the network's errors add up to strain. So it is hot while the
    bonds form, and cold from ``freeze_sigma`` on, where they stay and atoms only settle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=140, ge=1, description="evaluations of the denoiser")
    sigma_max: float = Field(default=0.28, gt=0, description="first noise level, Å")
    sigma_min: float = Field(default=0.03, gt=0, description="last noise level, Å")
    rho: float = Field(
        default=3.0, gt=0, description="spacing of the noise levels: 1 linear, large logarithmic"
    )
    churn: float = Field(default=2.0, ge=0, description="relative noise added before each step")
    churn_noise: float = Field(
        default=1.2,
        ge=0,
        description="amplitude of the added noise while bonds form: 1 as the noise levels say",
    )
    cold_noise: float = Field(
        default=0.35, ge=0, description="the same once they have formed: less than 1 lets atoms settle"
    )
    freeze_sigma: float | None = Field(
        default=None,
        ge=0,
        description="noise level that parts the two, Å; without: 0.15 in thin to 0.25 in dense structures",
    )
    rest: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the remaining noise that a step keeps: with less, atoms settle in fewer steps; "
        "without: the amplitude of the noise added then, at most 1",
    )
    churn_min: float = Field(default=0.04, ge=0, description="churn only above this noise level, Å")
    churn_max: float = Field(default=0.6, gt=0, description="churn only below this noise level, Å")
    start: Literal["lattice-jitter", "uniform"] = Field(
        default="lattice-jitter", description="where atoms begin"
    )
    start_jitter_a: float = Field(default=0.8, ge=0, description="jitter about the lattice sites, Å")
    cell_step: float = Field(
        default=0.0,
        ge=0,
        le=0.1,
        description="largest change of ln(volume) in one step under guidance, 0: the cell stays",
    )
    cell_limit: float = Field(
        default=2.0, gt=1, description="factor by which the volume may change in all, if it may change"
    )
    max_atoms_per_batch: int = Field(
        default=1024, ge=1, description="atoms denoised together, one structure at least"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.sigma_min < self.sigma_max:
            raise ValueError("sigma_min < sigma_max must hold")
        return self

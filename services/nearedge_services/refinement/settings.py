"""What decides how far a structure is refined."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from nearedge_services.structures.langevin import Thermostat
from nearedge_services.structures.material import DENSE_PACKING, THIN_PACKING


class Anneal(BaseModel):
    """Langevin dynamics between two relaxations, cooling exponentially. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=1200, ge=1)
    """Steps of the dynamics: 4.8 ps with the default timestep."""
    start_k: float = Field(default=4000.0, gt=0)
    """First temperature, K: hot enough to mend bonds."""
    end_k: float = Field(default=1200.0, gt=0)
    """Last temperature, K: in dense structures nothing changes below it in such a time, and the relaxation does the
    rest."""
    thermostat: Thermostat = Thermostat(timestep_fs=4.0)
    """A quarter of the period of carbon's stiffest bonds: enough for a stable integrator where only the end counts."""
    biased_steps: int = Field(default=1600, ge=1)
    """Steps of the dynamics where a bias acts, whose evaluation is dearer than the potential's: 3.2 ps by default."""
    biased_timestep_fs: float = Field(default=2.0, gt=0)
    """Timestep where a bias acts, fs. A spectral bias is as stiff as bonds (forces of several eV/Å): with 4 fs, or
    with impulses every second step of 4 fs, structures explode; with impulses every few steps of 2 fs they heat."""
    thin_share: float = Field(default=0.1, gt=0, le=1)
    """Share of both temperatures in thin structures, whose atoms have fewer bonds to break: annealed from 1,200 K
    two reference networks of carbon of 1.6 g/cm³ lose a fifth of their two-fold atoms, for no gain in energy."""
    thin_packing: float = Field(default=THIN_PACKING, gt=0)
    """Packing fraction of covalent spheres (see `packing_fraction`) up to which it applies: 1.6 g/cm³ in carbon."""
    dense_packing: float = Field(default=DENSE_PACKING, gt=0)
    """That from which temperatures are as given: 2.5 g/cm³ in carbon. Between them the logarithm of the share is linear
    in the packing fraction."""

    @model_validator(mode="after")
    def _thin_before_dense(self) -> "Anneal":
        if self.thin_packing >= self.dense_packing:
            raise ValueError(
                f"thin_packing {self.thin_packing:g} must be below dense_packing {self.dense_packing:g}"
            )
        return self

    def with_bias(self) -> "Anneal":
        """What is done where a bias acts."""
        thermostat = self.thermostat.model_copy(update={"timestep_fs": self.biased_timestep_fs})
        return self.model_copy(update={"steps": self.biased_steps, "thermostat": thermostat})

    def temperatures_k(self, packing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Temperature of every step, (steps, B) K, for structures of these packing fractions (B,)."""
        ramp = (packing - self.thin_packing) / (self.dense_packing - self.thin_packing)
        share = self.thin_share ** (1.0 - np.clip(ramp, 0.0, 1.0))
        return np.geomspace(self.start_k, self.end_k, self.steps)[:, None] * share

    def scaled(self, factor: float) -> "Anneal":
        """The same for a material that melts at ``factor`` times carbon's temperature."""
        return self.model_copy(update={"start_k": factor * self.start_k, "end_k": factor * self.end_k})


class RefinementSettings(BaseModel):
    """Relaxation, anneal, relaxation. Frozen; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_steps: int = Field(default=40, ge=0)
    """Steps of the relaxation before the anneal, at most: it takes the worst strain away."""
    first_fmax_ev_per_a: float = Field(default=1.0, gt=0)
    """Largest force at which it ends, eV/Å."""
    anneal: Anneal | None = Anneal()
    """None: relaxation only."""
    final_steps: int = Field(default=120, ge=0)
    """Steps of the relaxation at the end, at most."""
    final_fmax_ev_per_a: float = Field(default=0.05, gt=0)
    """Largest force at which it ends, eV/Å."""
    max_displacement_a: float = Field(default=3.0, gt=0)
    """A relaxation that moves an atom further has exploded, Å."""
    spectral_weight_ev: float = Field(default=1.0, ge=0)
    """Weight of the spectral mismatch beside the energy, eV per unit of ``Surrogate.mismatch``; 0: no bias."""
    members: int | None = Field(default=1, ge=1)
    """The first so many networks of the potential; None: all."""
    atoms_at_once: int = Field(default=256, ge=1)
    """Atoms refined together, one structure at least."""

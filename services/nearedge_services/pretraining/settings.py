"""What decides how models are made."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from nearedge_services.oracles.seed import SeedSettings
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.potential.settings import PotentialSettings
from nearedge_services.refinement.settings import Anneal
from nearedge_services.structures.langevin import Thermostat

GOLDEN = 0.6180339887498949
"""Steps of the golden ratio spread any number of densities evenly."""

Band = tuple[float, float]

MODELS: dict[str, dict[str, Any]] = {
    "prior": {
        "n_scalar": 96,
        "n_vector": 32,
        "steps": 30_000,
        "learning_rate": 2e-3,
        "ema": 0.9995,
        "spectrum_components": 6,
    },
    "surrogate": {"steps": 1000, "noise_aware_steps": 3000},
    "potential": {"interactions": 2, "correlation": 2, "steps": 2500, "batch_structures": 3},
}
"""Settings of the shipped carbon models."""


POTENTIAL: dict[str, Any] = {
    "interactions": 2,
    "channels": 16,
    "message_ell": 1,
    "correlation": 3,
    "cutoff_a": 3.5,
    "steps": 24_000,
    "batch_structures": 1,
    "bootstrap": False,
    "learning_rate": 0.01,
    "energy_weight": 1.0,
    "average_decay": 0.999,
}
"""Settings of a potential that is made anew."""


class PretrainingSettings(BaseModel):
    """Settings of the whole pipeline. The defaults, from nothing, are those of the first of the two pretrainings of the
    shipped carbon models; those of the second are `materials.started_values`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str = "C"
    """Formula that is repeated in every cell, such as ``C`` or ``SiC``."""
    density_g_cm3: Band = (1.4, 3.6)
    """Range of densities, g/cm³."""
    left_out_g_cm3: tuple[Band, ...] = ((2.15, 2.35), (2.9, 3.1))
    """Densities (g/cm³) that no training of prior and surrogate sees, to judge them between what they know."""
    oracle: str = "xtb"
    oracle_settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)

    small_atoms: int = Field(default=32, ge=2)
    """Atoms of the cells from which the potential learns."""
    first_networks: int = Field(default=28, ge=2)
    """Classical melt-quenches, relaxed and labelled by the oracle."""
    first: SeedSettings = SeedSettings(relax_steps=25)
    hot_networks: int = Field(default=24, ge=0)
    """Classical quenches whose hot frames are labelled."""
    hot_frames: int = Field(default=9, ge=1)
    """Labelled frames of each."""
    rounds: int = Field(default=2, ge=0)
    """Times the potential quenches networks, has its mistakes labelled and learns again."""
    round_networks: int = Field(default=16, ge=2)
    round_quench: QuenchSettings = QuenchSettings(quench_steps=800, snapshots=7)

    network_atoms: int = Field(default=64, ge=8)
    """Atoms of the cells from which prior and surrogate learn, and of refined structures."""
    networks: int = Field(default=96, ge=4)
    network_quench: QuenchSettings = QuenchSettings(
        temperature_k=5000.0,
        final_temperature_k=1500.0,
        quench_steps=1300,
        thermostat=Thermostat(timestep_fs=2.0),
    )
    """Slow around the freezing, where what is gained per step is largest; the relaxation does the rest."""
    renews: Literal["networks", "potential"] = "networks"
    """What a pretraining that starts from earlier models makes: networks, and prior and surrogate from these and the
    kept ones; or a potential from the kept networks, ``rounds`` of quenches and refined structures, alone."""
    anew_g_cm3: Band | None = None
    """Densities (g/cm³) at which networks are made; a pretraining that starts from earlier models keeps theirs at
    all others. None: the whole range."""
    network_anneal: Anneal | None = Anneal(
        steps=1500,
        start_k=4500.0,
        end_k=1500.0,
        thermostat=Thermostat(timestep_fs=2.0),
        thin_share=1.0,
        thin_packing=0.195,  # this and the next as in the record of the shipped models: without effect at a share
        biased_steps=800,  # of 1 and without a bias
    )
    """Melts and freezes these networks once more, with the potential that has learnt from them; None: they stay.

    Prior and surrogate learn from what comes out, which lies lower by about 0.1 eV/atom.
    """
    polish: SeedSettings = SeedSettings(relax_steps=14, path_frames=2)
    """Relaxation of every network with the oracle's own method, where the potential still errs."""
    rattle_a: tuple[float, ...] = (0.05, 0.12)
    """One labelled copy of every network with displacements of each of these sizes (Å), for the surrogate."""
    batch: int = Field(default=4, ge=1)
    """Networks quenched together."""
    generated: int = Field(default=32, ge=0)
    """Structures of the prior that are labelled for the surrogate, which is to judge just such."""
    generated_evaluations: tuple[int, ...] = Field(default=(25, 50, 100, 200), min_length=1)
    """Evaluations of the denoiser, in turn: the fewer, the more strained is what comes out."""
    refined: int = Field(default=0, ge=0)
    """Structures of a start's prior that its potential refines, for a potential that is made anew: each is labelled as
    generated, as refined, and while the oracle's own method brings it to rest (`polish`, `rattle_a`)."""
    held_out_every: int = Field(default=8, ge=2)
    """Every so many networks one is kept out of training, to judge the models."""

    potential: PotentialSettings = PotentialSettings(
        members=1, bootstrap=False, interactions=2, correlation=2, steps=2000, batch_structures=3
    )
    """Of the potential that quenches."""
    models: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(MODELS))
    """Settings of the final ``prior``, ``surrogate`` and ``potential``."""

    @field_validator("anew_g_cm3")
    @classmethod
    def _anew_within(cls, band: Band | None, info: ValidationInfo) -> Band | None:
        low, high = info.data.get("density_g_cm3", (0.0, float("inf")))
        if band is not None and not low <= band[0] < band[1] <= high:
            raise ValueError("give a range within density_g_cm3")
        return band

    def formula(self, atoms: int) -> str:
        """Composition of a cell of about so many atoms."""
        from nearedge_services.structures.composition import parse_composition

        unit = parse_composition(self.unit)
        repeats = max(round(atoms / unit.size), 1)
        return "".join(f"{symbol}{count * repeats}" for symbol, count in unit.counts.items())

    def densities(self, count: int, offset: float, band: Band | None = None) -> list[float]:
        """``count`` densities in g/cm³ that fill the band (default: the whole range) evenly, in no order."""
        low, high = band or self.density_g_cm3
        shares = (np.arange(count) * GOLDEN + offset) % 1.0
        return [round(float(low + (high - low) * share), 3) for share in shares]

    def anew(self, density_g_cm3: float) -> bool:
        """Whether networks of this density, to 0.001 g/cm³, are made here."""
        if self.renews == "potential":
            return False
        low, high = self.anew_g_cm3 or self.density_g_cm3
        return low <= round(density_g_cm3, 3) <= high

    def kept(self, density_g_cm3: float) -> bool:
        """Whether networks of this density are taken from the models that a pretraining starts from."""
        low, high = self.density_g_cm3
        return low <= round(density_g_cm3, 3) <= high and not self.anew(density_g_cm3)

    def left_out(self, density_g_cm3: float) -> bool:
        """Whether training must not see this density."""
        return any(low <= density_g_cm3 <= high for low, high in self.left_out_g_cm3)

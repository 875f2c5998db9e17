"""The actor that samples candidate structures from the diffusion prior, guided or not."""

from dataclasses import dataclass
from typing import Any

from ase import Atoms

from nearedge_agents.agent import Agent
from nearedge_agents.models import ModelCache, ModelFiles
from nearedge_services.spectra.target import Target


@dataclass(frozen=True)
class Request:
    """One batch of structures: a density (g/cm³) and a seed for each, one guidance scale (0: unguided)."""

    generation_id: int
    composition: str
    densities: tuple[float, ...]
    seeds: tuple[int, ...]
    guidance_scale: float
    sampler: dict[str, Any]


class Generator(Agent):
    """Samples structures; keeps the newest prior and surrogate loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.models = ModelCache()

    def generate(
        self, request: Request, target: Target, prior: ModelFiles, surrogate: ModelFiles | None
    ) -> list[Atoms]:
        """Sample the structures of ``request``; raises when a sample goes non-finite."""
        from nearedge_services.diffusion.guidance import SpectrumGuidance
        from nearedge_services.diffusion.sampler import SamplerSettings, empty_cells, sample
        from nearedge_services.structures.composition import parse_composition

        guidance = None
        if request.guidance_scale > 0:
            if surrogate is None:
                raise ValueError("a guided request needs a surrogate")
            guidance = SpectrumGuidance(self.models.get(surrogate), target, request.guidance_scale)
        starts = empty_cells(parse_composition(request.composition), list(request.densities))
        settings = SamplerSettings(**request.sampler)
        return sample(self.models.get(prior), starts, settings, list(request.seeds), guidance)

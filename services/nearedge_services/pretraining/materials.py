"""The pipeline's settings for another material than carbon, for which the defaults are."""

from typing import Any

from nearedge_services.diffusion.settings import PriorSettings
from nearedge_services.potential.quench import QuenchSettings
from nearedge_services.potential.settings import PotentialSettings
from nearedge_services.pretraining.settings import MODELS, POTENTIAL, PretrainingSettings
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.langevin import Thermostat
from nearedge_services.structures.material import Scales
from nearedge_services.surrogate.settings import SurrogateSettings


def material_values(unit: str) -> dict[str, Any]:
    """Values of `PretrainingSettings` for cells of this unit, such as ``Si``: the defaults with cutoffs,
    displacements and temperatures carried over (see `Scales`), and no density left out.

    Silicon boils at the 6,500 K of carbon's melt, and its bonds are as long as the way to carbon's second
    neighbours. Noise levels stay carbon's: priors of silicon with noise levels 1.46 times as large, in training and
    sampling, generated no better ones. Raises UserError for a unit that is no formula.
    """
    scales, standard = Scales.of(parse_composition(unit)), PretrainingSettings()
    anneal = standard.network_anneal
    first = standard.first.model_dump()
    first["rattle_a"] = _stretched(standard.first.rattle_a, scales)
    return {
        "unit": unit,
        "left_out_g_cm3": (),
        "first": first,
        "round_quench": quench_values(standard.round_quench, scales),
        "network_quench": quench_values(standard.network_quench, scales),
        "network_anneal": anneal.scaled(scales.temperature).model_dump() if anneal else None,
        "rattle_a": _stretched(standard.rattle_a, scales),
        "potential": {
            **standard.potential.model_dump(),
            "cutoff_a": scales.length * standard.potential.cutoff_a,
        },
        "models": {kind: {**given, **model_cutoffs(kind, scales)} for kind, given in MODELS.items()},
    }


def started_values(unit: str) -> dict[str, Any]:
    """Values of `PretrainingSettings` for a pretraining that starts from earlier models of this unit: networks are
    quenched from a hot melt and not annealed; of carbon thin ones only, which an anneal orders too much.

    Raises UserError for a unit that is no formula.
    """
    scales = Scales.of(parse_composition(unit))
    hot = QuenchSettings(temperature_k=8000.0, quench_steps=1500, thermostat=Thermostat(timestep_fs=1.5))
    return {
        **({} if unit == "C" else material_values(unit)),
        "networks": 24,
        "anew_g_cm3": (1.4, 1.85) if unit == "C" else None,
        "network_quench": quench_values(hot, scales),
        "network_anneal": None,
    }


def potential_values(unit: str) -> dict[str, Any]:
    """Values of `PretrainingSettings` for a pretraining that makes the potential of earlier models anew: fast quenches
    from a hot melt, as `started_values` makes networks, refined structures of the prior, and a longer training.

    Raises UserError for a unit that is no formula.
    """
    scales = Scales.of(parse_composition(unit))
    hot = QuenchSettings(
        temperature_k=8000.0,
        hold_steps=150,
        quench_steps=1500,
        snapshots=11,
        thermostat=Thermostat(timestep_fs=1.5),
    )
    usual = {} if unit == "C" else material_values(unit)
    return {
        **usual,
        "renews": "potential",
        "rounds": 1,
        "round_networks": 48,
        "refined": 48,
        "round_quench": quench_values(hot, scales),
        "models": {
            **MODELS,
            **usual.get("models", {}),
            "potential": {**POTENTIAL, "cutoff_a": scales.length * POTENTIAL["cutoff_a"]},
        },
    }


def quench_values(quench: QuenchSettings, scales: Scales) -> dict[str, Any]:
    """A quench of carbon at the temperatures of another material."""
    temperatures = {
        name: scales.temperature * getattr(quench, name) for name in ("temperature_k", "final_temperature_k")
    }
    return {**quench.model_dump(), **temperatures}


def model_cutoffs(kind: str, scales: Scales) -> dict[str, float]:
    """Cutoffs (Å) of a ``prior``, ``surrogate`` or ``potential``: the defaults for longer bonds."""
    standard = {"prior": PriorSettings, "surrogate": SurrogateSettings, "potential": PotentialSettings}[kind]
    return {
        name: scales.length * value
        for name, value in standard().model_dump().items()
        if name.endswith("cutoff_a")
    }


def _stretched(sizes_a: tuple[float, ...], scales: Scales) -> tuple[float, ...]:
    return tuple(scales.length * size for size in sizes_a)

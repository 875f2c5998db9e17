"""Another material than carbon: what is carried over, and that the pipeline trains and generates for it."""

import numpy as np
import pytest

from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import empty_cells, random_start, sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.potential.potential import Potential
from nearedge_services.pretraining.frames import networks, read_frames
from nearedge_services.pretraining.materials import material_values
from nearedge_services.pretraining.pipeline import pretrain
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.refinement import Anneal
from nearedge_services.registry import ModelRegistry
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_numbers, shortest_contact
from nearedge_services.structures.material import Scales
from nearedge_services.structures.validity import relative_contact
from nearedge_services.surrogate.surrogate import Surrogate

SMALL = {
    "small_atoms": 16,
    "first_networks": 5,
    "first": {"relax_steps": 6, "path_frames": 2, "rattle_a": [0.1, 0.2], "melt_quench": {"melt_steps": 150}},
    "hot_networks": 2,
    "hot_frames": 4,
    "rounds": 0,
    "network_atoms": 16,
    "networks": 8,
    "batch": 8,
    "polish": {"relax_steps": 4, "path_frames": 0},
    "rattle_a": [],
    "held_out_every": 4,
}


def scales(unit):
    return Scales.of(parse_composition(unit))


def test_carbon_is_the_measure():
    """Its numbers stay; silicon's bonds are longer, and it melts earlier; silicon carbide lies between."""
    assert (scales("C64").length, scales("C").temperature) == (1.0, 1.0)
    assert scales("Si").length == pytest.approx(2.35 / 1.54, rel=0.06)
    assert scales("SiC").length == pytest.approx(1.89 / 1.54, rel=0.06)
    assert scales("Si").temperature < scales("Si8C8").temperature == scales("SiC").temperature < 1


def test_settings_of_carbon_are_the_defaults():
    """All but the densities that are left out, which belong to the shipped models."""
    settings = PretrainingSettings.model_validate(material_values("C"))
    whole = settings.model_dump(exclude={"left_out_g_cm3", "models"})
    assert whole == PretrainingSettings().model_dump(exclude={"left_out_g_cm3", "models"})
    assert PriorSettings(**settings.models["prior"]) == PriorSettings(**PretrainingSettings().models["prior"])


def test_lengths_and_temperatures_of_silicon():
    """Cutoffs reach as many shells as carbon's; quenches start from a melt, not from a gas."""
    settings = PretrainingSettings.model_validate(material_values("Si"))
    factor, standard = scales("Si").length, PretrainingSettings()
    prior = PriorSettings(**settings.models["prior"])
    assert prior.cutoff_a == pytest.approx(factor * PriorSettings().cutoff_a)
    assert prior.sigma_max_a == PriorSettings().sigma_max_a
    assert prior.n_scalar == standard.models["prior"]["n_scalar"]
    assert (
        settings.models["potential"]["cutoff_a"] == settings.potential.cutoff_a == pytest.approx(4 * factor)
    )
    assert settings.potential.max_force_ev_per_a == standard.potential.max_force_ev_per_a
    assert settings.rattle_a == pytest.approx([factor * size for size in standard.rattle_a])
    assert settings.network_quench.temperature_k == pytest.approx(3250)
    assert settings.network_quench.quench_steps == standard.network_quench.quench_steps
    assert max(Anneal().scaled(0.5).temperatures_k()) == pytest.approx(0.5 * max(Anneal().temperatures_k()))


def small_settings(unit, density_g_cm3):
    """The pipeline in a form of half a minute, for a unit and a range of densities."""
    values = material_values(unit)
    changes = {
        "network_quench": {"quench_steps": 60, "hold_steps": 0, "relax_steps": 40},
        "potential": {"steps": 120},
    }
    merged = {key: {**values[key], **change} for key, change in changes.items()}
    merged["network_quench"]["temperature_k"] = (
        600.0  # the classical melt is frozen: the potential is a poor one
    )
    prior = {"n_scalar": 32, "n_vector": 12, "steps": 400, "spectrum_components": 0, "ema": 0.99}
    models = {
        "prior": {**values["models"]["prior"], **prior},
        "surrogate": {"steps": 5, "members": 2, "tight_binding": False},
        "potential": {**values["models"]["potential"], "steps": 20, "members": 1, "bootstrap": False},
    }
    return PretrainingSettings.model_validate(
        {**values, **SMALL, **merged, "models": models, "density_g_cm3": density_g_cm3}
    )


@pytest.mark.slow
@pytest.mark.parametrize(("unit", "density_g_cm3"), [("Si", (2.1, 2.5)), ("SiC", (2.7, 3.1))])
def test_the_pipeline_trains_and_generates_for_another_material(unit, density_g_cm3, tmp_path):
    """From nothing to structures with what was asked for in them, no atoms too close, and bonds nearer to the
    networks' than those of the random places they started from; the weights go through the registry.
    """
    settings = small_settings(unit, density_g_cm3)
    record = pretrain(tmp_path, settings, 1, lambda *_: None)
    made = networks(read_frames(tmp_path, "network"))
    assert len(made) == settings.networks
    for atoms in made:
        assert sorted(atoms.numbers) == sorted(parse_composition(settings.formula(16)).numbers)
        assert relative_contact(atoms) > 0.75
    assert record["metrics"]["prior"]["denoising_loss"] < 2.6  # 3: nothing learnt

    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", unit)
    version = registry.record_training(
        "prior",
        tmp_path / "models" / "prior",
        parameters={"unit": unit},
        metrics=record["metrics"]["prior"],
        dataset_hash="0" * 64,
    ).version
    registry.promote("prior", version)
    prior = Prior.load(registry.download("prior", "champion", tmp_path / "champion"))
    assert set(prior.elements) == set(parse_composition(unit).elements)
    for model in (Surrogate, Potential):
        model.load(tmp_path / "models" / model.__name__.lower())

    sampler = SamplerSettings(steps=60)
    cells = empty_cells(parse_composition(settings.formula(32)), [float(np.mean(density_g_cm3))] * 4)
    structures = sample(prior, cells, sampler, seeds=[0, 1, 2, 3])
    starts = [random_start(cell, sampler, np.random.default_rng(k)) for k, cell in enumerate(cells)]
    for atoms, cell in zip(structures, cells, strict=True):
        assert np.array_equal(atoms.numbers, cell.numbers)
        assert np.allclose(atoms.cell.array, cell.cell.array)
    contacts = [[relative_contact(atoms) for atoms in side] for side in (structures, starts)]
    assert min(contacts[0]) > 0.75 > max(contacts[1])
    assert min(shortest_contact(atoms) for atoms in structures) > 1.3
    off_four = [
        np.mean([np.abs(coordination_numbers(atoms) - 4).mean() for atoms in side])
        for side in (structures, starts)
    ]
    assert off_four[0] < 0.8 * off_four[1]

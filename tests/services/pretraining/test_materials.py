"""Another material than carbon: what is carried over, and that the pipeline trains and generates for it."""

import numpy as np
import pytest
from ase import Atoms

from nearedge_services.diffusion.prior import Prior
from nearedge_services.diffusion.sampler import empty_cells, random_start, sample
from nearedge_services.diffusion.settings import PriorSettings, SamplerSettings
from nearedge_services.diffusion.training import train_prior
from nearedge_services.oracles.base import Label
from nearedge_services.oracles.errors import NotConverged
from nearedge_services.potential.potential import Potential
from nearedge_services.pretraining.frames import networks, read_frames
from nearedge_services.pretraining.jobs import labelled
from nearedge_services.pretraining.materials import material_values
from nearedge_services.pretraining.pipeline import pretrain
from nearedge_services.pretraining.settings import PretrainingSettings
from nearedge_services.refinement import Anneal
from nearedge_services.registry import ModelRegistry
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_numbers
from nearedge_services.structures.material import Scales
from nearedge_services.structures.melt_quench import melt_quench
from nearedge_services.structures.validity import relative_contact
from nearedge_services.surrogate.surrogate import Surrogate

SMALL = {
    "small_atoms": 16,
    "first_networks": 3,
    "first": {"relax_steps": 4, "path_frames": 2, "rattle_a": [0.1, 0.2], "melt_quench": {"melt_steps": 150}},
    "hot_networks": 1,
    "hot_frames": 3,
    "rounds": 0,
    "network_atoms": 16,
    "networks": 8,
    "network_anneal": None,  # a potential of so few steps does not hold a melt together
    "batch": 8,
    "polish": {"relax_steps": 3, "path_frames": 0},
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
    assert settings.network_quench.temperature_k == pytest.approx(2500)
    assert settings.network_anneal.start_k == pytest.approx(0.5 * standard.network_anneal.start_k)
    assert settings.network_quench.quench_steps == standard.network_quench.quench_steps
    dense = np.array([0.3])
    np.testing.assert_allclose(
        Anneal().scaled(0.5).temperatures_k(dense), 0.5 * Anneal().temperatures_k(dense)
    )


class HalfAnOracle:
    """Does not converge for structures of an odd number of atoms."""

    def label(self, atoms):
        """A label of nothing."""
        if len(atoms) % 2:
            raise NotConverged("SCF not converged")
        return Label(0.0, np.zeros((len(atoms), 3)), np.zeros((len(atoms), 2)), np.arange(2.0), 0.0)


def test_a_frame_without_a_label_does_not_end_a_pretraining():
    """Silicon's melt is a metal: some of its frames do not converge, and one of them must not cost the others."""
    frames = [Atoms(f"Si{n}", positions=np.zeros((n, 3)), cell=[9, 9, 9], pbc=True) for n in (2, 3, 4)]
    assert [len(atoms) for atoms in labelled(frames, HalfAnOracle(), "hot", 2.3)] == [2, 4]


def small_settings():
    """The pipeline for silicon in a form of a minute."""
    values = material_values("Si")
    # the classical melt is frozen at once: the potential is a poor one
    quench = {"quench_steps": 40, "hold_steps": 0, "relax_steps": 30, "temperature_k": 600.0}
    prior = {"n_scalar": 32, "n_vector": 12, "steps": 300, "spectrum_components": 0, "ema": 0.99}
    models = {
        "prior": {**values["models"]["prior"], **prior},
        "surrogate": {"steps": 5, "members": 2, "tight_binding": False},
        "potential": {"steps": 10, "members": 1, "bootstrap": False},
    }
    changes = {
        "network_quench": {**values["network_quench"], **quench},
        "potential": {**values["potential"], "cutoff_a": 4.8, "steps": 80},
        "models": models,
        "density_g_cm3": (2.1, 2.5),
    }
    return PretrainingSettings.model_validate({**values, **SMALL, **changes})


def check_generated(prior, cells, sampler):
    """Structures with what was asked for in them, bonded better than the random places they started from."""
    structures = sample(prior, cells, sampler, seeds=list(range(len(cells))))
    starts = [random_start(cell, sampler, np.random.default_rng(k)) for k, cell in enumerate(cells)]
    for atoms, cell in zip(structures, cells, strict=True):
        assert np.array_equal(atoms.numbers, cell.numbers)
        assert np.allclose(atoms.cell.array, cell.cell.array)
    contacts = [[relative_contact(atoms) for atoms in side] for side in (structures, starts)]
    assert min(contacts[0]) > 0.65
    assert np.median(contacts[0]) > 0.75 > max(contacts[1])
    off_four = [
        np.mean([np.abs(coordination_numbers(atoms) - 4).mean() for atoms in side])
        for side in (structures, starts)
    ]
    assert off_four[0] < 0.8 * off_four[1]


@pytest.mark.slow
def test_the_pipeline_trains_and_generates_silicon(tmp_path):
    """From nothing to structures; the prior goes through the registry on the way."""
    settings = small_settings()
    record = pretrain(tmp_path, settings, 1, lambda *_: None)
    made = networks(read_frames(tmp_path, "network"))
    assert len(made) >= settings.networks - 2  # the oracle may give up on a poor one
    assert {atoms.get_chemical_formula() for atoms in made} == {"Si16"}
    assert min(relative_contact(atoms) for atoms in made) > 0.75
    assert record["metrics"]["prior"]["denoising_loss"] < 2.6  # 3: nothing learnt
    for model in (Surrogate, Potential):
        model.load(tmp_path / "models" / model.__name__.lower())

    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "silicon")
    folder, metrics = tmp_path / "models" / "prior", record["metrics"]["prior"]
    version = registry.record_training("prior", folder, {"unit": "Si"}, metrics, "0" * 64).version
    registry.promote("prior", version)
    prior = Prior.load(registry.download("prior", "champion", tmp_path / "champion"))
    assert prior.elements == ("Si",)
    check_generated(prior, empty_cells(parse_composition("Si32"), [2.2, 2.3, 2.4]), SamplerSettings(steps=60))


@pytest.mark.slow
def test_a_prior_of_silicon_carbide_places_both_elements():
    """Trained on classical networks alone; both kinds get their own bonds."""
    unit = parse_composition("Si8C8")
    made = [melt_quench(unit, 2.7 + 0.05 * k, k) for k in range(8)]
    changes = {"n_scalar": 32, "n_vector": 12, "steps": 600, "spectrum_components": 0, "ema": 0.99}
    settings = PriorSettings(**{**material_values("SiC")["models"]["prior"], **changes})
    prior, _ = train_prior(made, [], settings, seed=0)
    assert set(prior.elements) == {"C", "Si"}
    cells = empty_cells(parse_composition("Si16C16"), [2.8, 2.9, 3.0])
    check_generated(prior, cells, SamplerSettings(steps=60))

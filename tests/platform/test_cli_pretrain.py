"""Settings of ``nearedge pretrain`` from its command line."""

import pytest

from nearedge.cli.pretrain import read_settings
from nearedge_db.errors import UserError
from nearedge_services.pretraining.settings import MODELS, PretrainingSettings


def test_one_key_of_a_model_leaves_the_others_as_they_were():
    settings = read_settings("C", "1.4:3.6", 0, ["models.prior.steps=7"])
    assert settings.models["prior"] == {**MODELS["prior"], "steps": 7}
    assert settings.models["surrogate"] == MODELS["surrogate"]
    assert MODELS["prior"]["steps"] != 7


def test_one_key_of_an_anneal_leaves_the_others_as_they_were():
    anneal = read_settings("C", "1.4:3.6", 0, ["network_anneal.thin_share=0.3"]).network_anneal
    assert anneal == PretrainingSettings().network_anneal.model_copy(update={"thin_share": 0.3})


@pytest.mark.parametrize(
    ("unit", "density", "pairs", "words"),
    [
        ("Fe", "1.4:3.6", [], "no potential for an element"),
        ("C", "3:1", [], "density range"),
        ("C", "1.4:3.6", ["network=3"], "'network'"),
        ("C", "1.4:3.6", ["networks=-1"], "'networks'"),
    ],
)
def test_bad_settings_are_named(unit, density, pairs, words):
    with pytest.raises(UserError, match=words):
        read_settings(unit, density, 0, pairs)


def test_silicon_gets_its_own_lengths_and_temperatures_and_a_changed_key_leaves_them():
    settings = read_settings("Si", "2.0:2.6", 0, ["models.prior.steps=7"])
    assert settings.left_out_g_cm3 == ()
    assert (
        settings.network_quench.temperature_k
        < read_settings("C", "2.0:2.6", 0, []).network_quench.temperature_k
    )
    assert settings.models["prior"]["steps"] == 7
    assert settings.models["prior"]["cutoff_a"] > 6


def test_a_start_makes_thin_carbon_anew_and_all_of_another_material():
    carbon = read_settings("C", "1.4:3.6", 0, ["networks=8"], "networks")
    assert carbon.anew_g_cm3 == (1.4, 1.85)
    assert carbon.networks == 8
    assert carbon.network_anneal is None
    assert carbon.network_quench.quench_steps * carbon.network_quench.thermostat.timestep_fs == 2250.0
    silicon = read_settings("Si", "2.0:2.6", 0, [], "networks")
    assert silicon.anew_g_cm3 is None
    assert silicon.network_quench.temperature_k < carbon.network_quench.temperature_k
    with pytest.raises(UserError, match=r"'anew_g_cm3'.*\(1.4, 1.85\).*within density_g_cm3"):
        read_settings("C", "2:3", 0, [], "networks")


def test_a_start_takes_an_anneal_and_refuses_settings_of_what_it_keeps():
    anneal = read_settings("C", "1.4:3.6", 0, ["network_anneal.steps=7"], "networks").network_anneal
    assert anneal == PretrainingSettings().network_anneal.model_copy(update={"steps": 7})


@pytest.mark.parametrize(
    ("anew", "pair"),
    [
        ("networks", "models.potential.steps=7"),
        ("networks", "rounds=1"),
        ("networks", "first_networks=3"),
        ("networks", "renews=potential"),
        ("potential", "models.prior.steps=7"),
        ("potential", "anew_g_cm3=[1.4, 1.8]"),
        ("potential", "network_quench.quench_steps=7"),
        ("potential", "networks=7"),
        ("networks", "refined=7"),
        (None, "refined=7"),
        (None, "anew_g_cm3=[1.4, 1.8]"),
    ],
)
def test_settings_of_what_is_not_made_are_refused(anew, pair):
    with pytest.raises(UserError, match=rf"no effect.*{pair.split('=')[0]}"):
        read_settings("C", "1.4:3.6", 0, [pair], anew)


def test_a_potential_made_anew_learns_longer_and_keeps_every_network():
    carbon = read_settings("C", "1.4:3.6", 0, ["rounds=2", "models.potential.steps=7"], "potential")
    assert (carbon.rounds, carbon.models["potential"]["steps"]) == (2, 7)
    assert carbon.models["potential"]["message_ell"] == 1
    assert carbon.refined == 48
    cells = read_settings("C", "1.4:3.6", 0, ["network_atoms=32", "polish.relax_steps=3"], "potential")
    assert (cells.network_atoms, cells.polish.relax_steps) == (32, 3)
    assert all(carbon.kept(density) for density in (1.4, 1.6, 2.5, 3.6))
    assert not carbon.kept(3.7)
    silicon = read_settings("Si", "2.0:2.6", 0, [], "potential")
    assert silicon.models["potential"]["cutoff_a"] > 5
    assert silicon.round_quench.temperature_k < carbon.round_quench.temperature_k

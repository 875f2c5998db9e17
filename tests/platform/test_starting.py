"""Which models a campaign starts from: those that fit, and in words why another does not."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.platform.campaign_files import write_config
from tests.platform.tiny_models import write_models

from nearedge.config import MODEL_KINDS, CampaignConfig, load_config
from nearedge.starting import Start, choose_start
from nearedge_db.errors import UserError
from nearedge_services import weights
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.weights.labels import LABELS_FILE, LabelledBy, labelled_by

ORACLE = make_oracle("xtb", {})
OTHER = make_oracle("xtb", {"sigma_ev": 0.5})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Models of carbon, trained on labels of the default oracle."""
    folder = write_models(tmp_path_factory.mktemp("written"))
    LabelledBy.of(ORACLE).write(folder)
    return folder


@pytest.fixture
def models(written, tmp_path):
    """A copy of them that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "models"))


@pytest.fixture
def program(models, monkeypatch):
    """Those come with the program."""
    monkeypatch.setattr(weights, "ROOT", models.parent)
    monkeypatch.setattr(weights, "MATERIALS", {("C",): models.name})
    return models


def start(elements="C", oracle=ORACLE, absorber="C", **given) -> Start:
    """What settings give a campaign."""
    config = CampaignConfig.model_validate({"name": "x", "target": {"file": "t.csv"}, "models": given})
    return choose_start(config, list(elements), absorber, oracle)


def test_shipped_models_are_the_default(program):
    found = start()
    assert found.from_nothing == {}
    assert {kind: model.folder for kind, model in found.models.items()} == {
        kind: program / kind for kind in MODEL_KINDS
    }
    assert {model.origin for model in found.models.values()} == {"shipped"}
    (line,) = found.lines()
    for kind, model in found.models.items():
        assert model.weights.startswith("sha256:")
        assert f"{kind} {model.weights}" in line
    assert line.startswith("starting from shipped: prior sha256:")


def test_the_hash_is_that_of_the_weights(program):
    before = start().models
    weights_file = program / "prior" / "weights.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-4] + b"\0\0\0\1")
    after = start().models
    changed = [kind for kind in MODEL_KINDS if before[kind].weights != after[kind].weights]
    assert changed == ["prior"]


def test_the_shipped_carbon_models_fit_the_default_oracle():
    """What comes with the program is usable as it is."""
    assert weights.shipped("prior", ["C"]) is not None
    assert start().from_nothing == {}


def test_nothing_is_all_from_nothing(program):
    found = start(start="nothing")
    assert found.models == {}
    assert set(found.from_nothing) == set(MODEL_KINDS)
    assert found.lines() == ["trained from nothing, models.start is nothing: prior, surrogate, potential"]


@pytest.mark.parametrize("elements", [["Si"], ["C", "Si"]])
def test_no_models_for_these_elements(program, elements):
    found = start(elements=elements, absorber="Si")
    assert found.models == {}
    name = "-".join(sorted(elements))
    assert found.lines() == [
        f"trained from nothing, none comes with the program for {name}: prior, surrogate, potential"
    ]


def test_other_settings_of_the_oracle_leave_the_prior(program):
    """It learns positions alone; spectra, and here energies too, are another oracle's."""
    found = start(oracle=OTHER)
    assert list(found.models) == ["prior"]
    assert set(found.from_nothing) == {"surrogate", "potential"}
    assert "labelled by xtb with other settings" in found.from_nothing["potential"]


def test_another_oracle_is_named(program):
    LabelledBy("gpaw", "ab").write(program)
    assert "labelled by gpaw, the campaign's oracle is xtb" in start().from_nothing["surrogate"]


def test_models_without_a_record_are_not_trusted(program):
    (program / LABELS_FILE).unlink()
    found = start()
    assert list(found.models) == ["prior"]
    assert "nothing says which oracle" in found.from_nothing["surrogate"]


def test_the_record_of_a_pretraining_will_do(program):
    """Beside the models, or one folder up where `nearedge pretrain` writes it."""
    record = {"networks": 3, **LabelledBy.of(ORACLE).as_record()}
    (program / LABELS_FILE).unlink()
    for folder in (program, program.parent):
        (folder / "pretraining.json").write_text(json.dumps(record))
        assert labelled_by(program) == LabelledBy.of(ORACLE)
        assert start().from_nothing == {}
        (folder / "pretraining.json").unlink()


@pytest.mark.parametrize("text", ["{", '{"oracle": {"name": "xtb"}}', "3"])
def test_a_damaged_record_is_an_error(program, text):
    (program / LABELS_FILE).write_text(text)
    with pytest.raises(UserError, match="record beside the models is damaged"):
        start()


def test_spectra_on_other_energies_do_not_fit(program):
    path = program / "surrogate" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "grid": {**config["grid"], "step_ev": 0.5}}))
    assert start().from_nothing == {
        "surrogate": "the shipped one does not fit: its spectra are on other energies"
    }


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("prior", {"n_scalar": 64}),
        ("prior", {"spectrum_components": 4}),
        ("surrogate", {"channels": 12}),
        ("surrogate", {"noise_aware_steps": 10}),
        ("potential", {"members": 3}),
        ("potential", {"radial_layers": [4, 4]}),
    ],
)
def test_sizes_that_are_asked_for_are_had(program, kind, given):
    """The weights cannot be resized: such a model is trained from nothing."""
    found = start(**{kind: {**given, "batch_atoms": 1} if kind == "surrogate" else given})
    (name,) = given
    assert found.from_nothing == {
        kind: f"the shipped one does not fit: models.{kind} asks for another {name}"
    }


def test_settings_of_the_training_and_equal_sizes_fit(program):
    given = {"prior": {"steps": 9, "n_layers": 1}, "potential": {"steps": 3, "radial_layers": [8]}}
    assert start(**given).from_nothing == {}


def test_a_folder_of_ones_own(models):
    found = start(start=models)
    assert set(found.models) == set(MODEL_KINDS)
    assert {model.origin for model in found.models.values()} == {str(models)}


def test_what_a_folder_has_not_is_trained(models):
    (models / "potential" / "config.json").unlink()
    found = start(start=models)
    assert set(found.models) == {"prior", "surrogate"}
    assert found.from_nothing == {"potential": f"{models} has none"}


def test_a_folder_that_does_not_fit_is_refused(models):
    with pytest.raises(UserError, match=r"the surrogate of models\.start does not fit.*other settings"):
        start(start=models, oracle=OTHER)
    with pytest.raises(UserError, match=r"the prior of models\.start does not fit.*it knows C"):
        start(start=models, elements=["Si"], absorber="Si")


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_damaged_weights_are_refused(models, kind):
    (models / kind / "weights.safetensors").write_bytes(b"nothing of use")
    with pytest.raises(UserError, match="damaged"):
        start(start=models)


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no models in models\.start"):
        start(start=tmp_path / "shiped")


def test_the_folder_is_relative_to_the_settings_file(tmp_path):
    path = write_config(tmp_path, models={"start": "mine"})
    assert load_config(path).models.start == tmp_path / "mine"
    assert load_config(path, ["models.start=nothing"]).models.start == "nothing"
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**data, "models": {}}))
    assert load_config(path).models.start == "shipped"


def test_a_copy_holds_the_model_alone(program, tmp_path):
    (program / "prior" / "metrics.json").write_text("no part of it")
    start().models["prior"].copy_to(tmp_path / "copy")
    assert sorted(path.name for path in Path(tmp_path / "copy").iterdir()) == [
        "config.json",
        "weights.safetensors",
    ]

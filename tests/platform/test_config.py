"""The settings file: what is read, what is filled in, and how mistakes are named."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.platform.campaign_files import write_config

from nearedge.config import CampaignConfig, load_config
from nearedge_db.errors import UserError


def complaint(path: Path, *overrides: str) -> str:
    """The one line that a bad settings file gives."""
    with pytest.raises(UserError) as caught:
        load_config(path, list(overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"colour": "red"}, "colour"),
        ({"target": {"file": "target.csv", "colour": 1}}, "target.colour"),
        ({"material": {"formula": "C8"}}, "material.formula"),
        ({"seeds": {"number": 8}}, "seeds.number"),
        ({"oracle": {"kind": "xtb"}}, "oracle.kind"),
        ({"models": {"priors": {}}}, "models.priors"),
        ({"models": {"retrain_every": {"surogate": 3}}}, "models.retrain_every.surogate"),
        ({"generation": {"batches": 4}}, "generation.batches"),
        ({"gate": {"contact": 1}}, "gate.contact"),
        ({"acquisition": {"name": "greedy"}}, "acquisition.name"),
        ({"stop": {"label": 3}}, "stop.label"),
        ({"pools": {"labelers": {"size": 2}}}, "pools.labelers"),
        ({"pools": {"labeler": {"count": 2}}}, "pools.labeler.count"),
        ({"ray": {"cpus": 2}}, "ray.cpus"),
        ({"confirm": {"name": "gpaw", "worst": 3}}, "confirm.worst"),
    ],
)
def test_an_unknown_key_anywhere_is_named(tmp_path, sections, key):
    message = complaint(write_config(tmp_path, **sections))
    assert f"unknown key '{key}'" in message


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text("name: x\ntarget: {align: false}\n")
    assert "'target.file' is missing" in complaint(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: [unclosed\ntarget: {", "not YAML"),
        ("name: x\n\tseed: 1\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    assert words in complaint(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nseed: 1\nname: y\n", "'name' in line 3, and before in line 1"),
        ("name: x\nstop:\n  labels: 1\n  labels: 2\n", "'labels' in line 4, and before in line 3"),
        ("name: x\nstop: {labels: 1, labels: 2}\n", "'labels' in line 2, and before in line 2"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    assert "given twice" in complaint(path)
    assert told in complaint(path)


def test_one_key_in_two_sections_and_an_overridden_merge_are_fine(tmp_path):
    path = write_config(tmp_path)
    text = path.read_text()
    path.write_text("models: &m\n  prior: {steps: 7}\n  potential: {steps: 7}\n" + text)
    config = load_config(path)
    assert config.models.prior["steps"] == config.models.potential["steps"] == 7


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "cannot read" in complaint(path)


def test_a_missing_file_is_named(tmp_path):
    assert str(tmp_path / "none.yaml") in complaint(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stop.labels", "--set wants key=value"),
        ("=3", "--set wants key=value"),
        ("stop labels=3", "--set wants key=value"),
        ("stop.labels={", "not YAML"),
        ("name.first=x", "no sub-keys"),
        ("stop.labels=many", "'stop.labels'"),
        ("stop.label=4", "unknown key 'stop.label'"),
        ("seed=-1", "'seed'"),
        ("name=../elsewhere", "'name'"),
    ],
)
def test_a_bad_override_is_refused(tmp_path, override, words):
    assert words in complaint(write_config(tmp_path), override)


def test_overrides_are_yaml_and_reach_new_sections(tmp_path):
    path = write_config(tmp_path)
    config = load_config(
        path, ["stop.labels=5", "material.density_g_cm3=[2, 3]", "models.prior={steps: 7}", "mlflow=null"]
    )
    assert config.stop.labels == 5
    assert config.material.density_g_cm3 == (2.0, 3.0)
    assert config.models.prior == {"steps": 7}
    assert config.mlflow is None


def test_the_last_override_of_a_key_wins(tmp_path):
    assert load_config(write_config(tmp_path), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"material": {"density_g_cm3": [3.4, 1.6]}}, "material.density_g_cm3"),
        ({"generation": {"guidance_scale": [10, 0.5]}}, "generation.guidance_scale"),
        ({"target": {"file": "t.csv", "window_ev": [20, 0]}}, "target.window_ev"),
    ],
)
def test_a_reversed_range_is_refused(tmp_path, section, key):
    message = complaint(write_config(tmp_path, **section))
    assert f"'{key}'" in message
    assert "low <= high" in message


@pytest.mark.parametrize(
    "override",
    [
        "material.density_g_cm3=[0, 3]",
        "material.density_g_cm3=[-1, 3]",
        "material.density_g_cm3=[2, 31]",
        "material.density_g_cm3=[2, .inf]",
        "material.density_g_cm3=[.nan, 3]",
        "generation.guidance_scale=[-1, 3]",
        "generation.guidance_scale=[0, 0]",
        "generation.guidance_scale=[0, .inf]",
        "generation.spectral_weight_ev=[-0.1, 3]",
        "generation.spectral_weight_ev=[0, 0]",
        "models.retrain_every={surrogate: 0}",
        "models.retrain_every={potential: -2}",
        "seed=2147483648",
        "gate.novelty=-0.1",
        "gate.novelty=.nan",
        "gate.min_contact=.inf",
        "stop.wall_minutes=.inf",
        "stop.tolerance_per_ev=.nan",
        "target.window_ev=[0, .inf]",
        "pools.labeler.cpus=.nan",
        "pools.labeler.resources={accelerator: .inf}",
        "ray.num_cpus=0",
    ],
)
def test_a_value_that_cannot_work_is_refused(tmp_path, override):
    assert f"bad value for '{override.partition('=')[0]}" in complaint(write_config(tmp_path), override)


def test_values_at_the_limits_are_taken(tmp_path):
    config = load_config(
        write_config(tmp_path),
        [
            "seed=2147483647",
            "material.density_g_cm3=[0.1, 30]",
            "generation.guidance_scale=[0, 5]",
            "generation.spectral_weight_ev=[2, 2]",
            "models.retrain_every={surrogate: 1}",
            "gate.novelty=0",
        ],
    )
    assert config.seed == 2**31 - 1
    assert config.generation.spectral_weight_ev == (2.0, 2.0)


def test_relative_files_are_beside_the_settings(tmp_path, monkeypatch):
    folder = tmp_path / "settings"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    path = write_config(folder, seeds={"file": "seeds.extxyz"}).relative_to(tmp_path)
    config = load_config(path)
    assert config.target.file.resolve() == folder / "target.csv"
    assert config.seeds.file is not None
    assert config.seeds.file.resolve() == folder / "seeds.extxyz"


def test_an_absolute_file_stays(tmp_path):
    config = load_config(write_config(tmp_path, target={"file": "/data/t.csv"}))
    assert config.target.file == Path("/data/t.csv")


def test_pools_given_in_part_are_filled_with_defaults(tmp_path):
    config = load_config(write_config(tmp_path, pools={"labeler": {"size": 5}}))
    default = CampaignConfig(name="x", target={"file": "t.csv"}).pools
    assert set(config.pools) == {"generator", "scorer", "labeler", "trainer"}
    assert config.pools["labeler"].size == 5
    assert config.pools["labeler"].cpus == default["labeler"].cpus
    assert {name: pool for name, pool in config.pools.items() if name != "labeler"} == {
        name: pool for name, pool in default.items() if name != "labeler"
    }


@pytest.mark.parametrize(
    "pools",
    [
        {"labeler": 3},
        {"labeler": {"size": 0}},
        {"labeler": {"gpus": 1.5}},
        {"labeler": {"memory_gib": -1}},
        {"labeler": {"resources": {"GPU": 1}}},
        {"labeler": {"resources": {"oracle": -1}}},
        [1, 2],
    ],
)
def test_bad_pools_are_refused(tmp_path, pools):
    assert "'pools" in complaint(write_config(tmp_path, pools=pools))


def test_the_baseline_defaults_to_a_third_rounded_up(tmp_path):
    path = write_config(tmp_path)
    assert load_config(path, ["stop.labels=7"]).stop.baseline == 3
    assert load_config(path, ["stop.labels=7", "stop.baseline_labels=0"]).stop.baseline == 0


def test_the_run_directory_defaults_to_the_name(tmp_path):
    assert load_config(write_config(tmp_path), ["dir=null"]).run_dir == Path("runs/checked")


def test_settings_cannot_be_changed_afterwards(tmp_path):
    config = load_config(write_config(tmp_path))
    with pytest.raises(ValidationError):
        config.seed = 3

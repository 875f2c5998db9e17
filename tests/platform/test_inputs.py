"""A campaign's files are known by what they hold, not by where they lie."""

import shutil

import pytest
from tests.platform.campaign_files import write_config, write_target

from nearedge import inputs
from nearedge.config import load_config
from nearedge_db.errors import UserError


@pytest.fixture
def place(tmp_path):
    """A folder with settings, target and starting structures; a function that copies them elsewhere."""
    (tmp_path / "one").mkdir()
    write_config(tmp_path / "one", seeds={"file": "starting.extxyz"}, dir=str(tmp_path / "run"))
    (tmp_path / "one" / "starting.extxyz").write_text("structures")

    def load(name: str):
        if not (tmp_path / name).exists():
            shutil.copytree(tmp_path / "one", tmp_path / name)
        config = load_config(tmp_path / name / "campaign.yaml")
        return config.model_dump(mode="json"), inputs.hashes(config)

    load.folder = tmp_path
    return load


def test_the_same_files_elsewhere_are_the_same_campaign(place):
    before, old = place("one")
    now, new = place("two")
    assert before["target"] != now["target"]
    inputs.check_same("film", now, old, new)
    inputs.follow(before, now, old, new)
    assert (before["target"], before["seeds"]) == (now["target"], now["seeds"])


@pytest.mark.parametrize("section", ["target", "seeds"])
def test_a_changed_file_is_refused_and_keeps_its_place(place, section):
    before, old = place("one")
    place("two")
    if section == "target":
        write_target(place.folder / "two" / "target.csv", values=inputs_values())
    else:
        (place.folder / "two" / "starting.extxyz").write_text("others")
    now, new = place("two")
    inputs.follow(before, now, old, new)
    assert before[section] != now[section]
    with pytest.raises(UserError, match=f"the {section} file of campaign 'film' has changed"):
        inputs.check_same("film", now, old, new)


def inputs_values():
    from tests.platform.campaign_files import intensity

    return intensity() * 2.0


def test_a_campaign_of_before_knows_its_files_by_their_place(place):
    before, _ = place("one")
    now, new = place("two")
    inputs.check_same("film", now, {}, new)
    inputs.follow(before, now, {}, new)
    assert before["target"] != now["target"]


def test_the_hashes_are_no_settings(place):
    settings, hashes = place("one")
    assert set(hashes) == {inputs.TARGET_SHA256, inputs.SEEDS_SHA256}
    assert inputs.without_hashes({**settings, **hashes}) == settings

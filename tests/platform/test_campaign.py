"""A campaign is opened once and continued only as what it was."""

import pytest
from tests.platform.campaign_files import ENERGIES_EV, intensity, write_config, write_target

from nearedge.campaign import TARGET_SHA256, open_campaign
from nearedge.config import load_config
from nearedge.preflight import check
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.states import CampaignState
from nearedge_db.store import find_campaign, set_campaign_state


@pytest.fixture
def database(tmp_path):
    database = Database.open(url_of_run(tmp_path))
    yield database
    database.dispose()


@pytest.fixture
def path(tmp_path):
    return write_config(tmp_path, material={"composition": "C8"})


def opened(database, path, *overrides):
    """The campaign of the settings file, as `nearedge run` opens it before Ray starts."""
    return open_campaign(database, check(load_config(path, list(overrides))))


def stored(database):
    with database.session() as session:
        return find_campaign(session, "checked")


def change_target(path):
    write_target(path.parent / "target.csv", ENERGIES_EV, 1.01 * intensity())


def test_the_same_settings_continue_the_same_campaign(database, path):
    first, _ = opened(database, path)
    again, has_more_to_do = opened(database, path)
    assert again.id == first.id
    assert has_more_to_do


def test_a_finished_campaign_goes_on_when_its_end_moves(database, path):
    campaign, _ = opened(database, path)
    with database.begin() as session:
        set_campaign_state(session, campaign.id, CampaignState.FINISHED)
    assert not opened(database, path)[1]
    assert opened(database, path, "stop.labels=60")[1]


@pytest.mark.parametrize("override", ["seed=3", "material.composition=C16", "target.window_ev=[0, 20]"])
def test_what_defines_a_campaign_cannot_change(database, path, override):
    opened(database, path)
    with pytest.raises(UserError, match="exists with another " + override.split("=")[0].split(".")[0]):
        opened(database, path, override)


def test_another_content_of_the_target_file_is_refused(database, path):
    opened(database, path)
    before = stored(database).config_json
    change_target(path)
    with pytest.raises(
        UserError, match=r"target file of campaign 'checked' has changed .*; got .*target\.csv"
    ) as told:
        opened(database, path)
    assert before[TARGET_SHA256][:12] in str(told.value)
    assert "\n" not in str(told.value)
    assert stored(database).config_json == before
    write_target(path.parent / "target.csv")
    assert opened(database, path)[1]


def test_a_campaign_stored_without_the_hash_goes_on_and_gets_it(database, path):
    campaign, _ = opened(database, path)
    with database.begin() as session:
        row = find_campaign(session, "checked")
        row.config_json = {key: value for key, value in row.config_json.items() if key != TARGET_SHA256}
    again, _ = opened(database, path)
    assert again.id == campaign.id
    assert len(stored(database).config_json[TARGET_SHA256]) == 64
    change_target(path)
    with pytest.raises(UserError, match="has changed"):
        opened(database, path)

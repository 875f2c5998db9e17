"""A campaign is opened once and continued only as what it was."""

import time
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import Mock

import pytest
from rich.console import Console
from tests.platform.campaign_files import ENERGIES_EV, intensity, write_config, write_target

from nearedge import campaign as campaign_module
from nearedge.campaign import EXIT_FAILED, open_campaign, request_stop
from nearedge.conductor.context import CampaignFailedError
from nearedge.config import load_config
from nearedge.driving import DriverReplacedError, driving
from nearedge.inputs import TARGET_SHA256
from nearedge.preflight import check
from nearedge.rundir import RunDir
from nearedge.summary import summarise
from nearedge_db import driver
from nearedge_db.database import Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.hashing import task_identity
from nearedge_db.ledger import Ledger
from nearedge_db.states import CampaignState, TaskKind
from nearedge_db.store import find_campaign, set_campaign_state
from nearedge_services.oracles.xtb import XtbOracle


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


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=3", "another seed; got 3, it has 0"),
        ("material.composition=C16", "another material.composition; got 'C16', it has 'C8'"),
        ("target.window_ev=[0, 20]", r"another target.window_ev; got \[0.0, 20.0\], it has None"),
        ("oracle.settings.sigma_ev=0.5", "another oracle.settings.sigma_ev; got 0.5, it has None"),
        ("seeds.settings.relax_steps=3", "another seeds.settings.relax_steps; got 3, it has None"),
    ],
)
def test_what_defines_a_campaign_cannot_change(database, path, override, told):
    opened(database, path)
    with pytest.raises(UserError, match=f"exists with {told}"):
        opened(database, path, override)


def test_how_the_oracles_are_run_may_change(database, path):
    """It changes no label: a campaign goes on with more memory, or with programs that lie elsewhere."""
    campaign, _ = opened(database, path, "confirm.name=xtb", "confirm.settings.core_hole=z+1")
    run = ("oracle.settings.run.seconds=60", "confirm.settings.run.elsewhere=0")
    again, _ = opened(database, path, "confirm.name=xtb", "confirm.settings.core_hole=z+1", *run)
    assert again.id == campaign.id
    assert stored(database).config_json["oracle"]["settings"] == {"run": {"seconds": 60}}
    with database.begin() as session:
        set_campaign_state(session, campaign.id, CampaignState.FINISHED)
    assert not opened(database, path, "confirm.name=xtb", "confirm.settings.core_hole=z+1")[1]


def test_labels_of_another_kind_by_the_same_settings_are_refused(database, path, monkeypatch):
    """As with other pseudopotentials of the same names."""
    campaign, _ = opened(database, path)
    payload = {"seed": 1}
    settings_hash = XtbOracle().settings_hash
    identity = task_identity(TaskKind.SEED, payload, settings_hash)
    Ledger(database).submit(
        TaskKind.SEED, identity, payload, campaign_id=campaign.id, settings_hash=settings_hash
    )
    assert opened(database, path)[1]
    monkeypatch.setattr(XtbOracle, "settings_hash", property(lambda self: "f" * 64))
    with pytest.raises(UserError, match=r"no longer be those of campaign .checked."):
        opened(database, path)
    with database.begin() as session:
        set_campaign_state(session, campaign.id, CampaignState.FINISHED)
    assert not opened(database, path)[1]  # nothing to do: nothing to mix


def test_a_finished_campaign_with_nothing_to_do_keeps_the_settings_it_was_run_with(database, path):
    campaign, _ = opened(database, path)
    with database.begin() as session:
        set_campaign_state(session, campaign.id, CampaignState.FINISHED)
        driver.release(session, campaign.id, driver.this_process())
    before = stored(database).config_json
    assert not opened(database, path, "gate.min_contact=0.5")[1]
    assert stored(database).config_json == before
    assert stored(database).driver_owner is None
    assert opened(database, path, "gate.min_contact=0.5", "stop.labels=60")[1]
    assert stored(database).config_json["gate"]["min_contact"] == 0.5


ELSEWHERE = replace(driver.this_process(), host="elsewhere/0", life="other")


def give_to(database, campaign, who, seconds=driver.LEASE_SECONDS):
    """Let another process drive the campaign."""
    with database.begin() as session:
        driver.release(session, campaign.id, driver.this_process())
        assert driver.take(session, campaign.id, who, database.now(session), seconds) is None


def test_a_second_driver_is_refused_and_changes_nothing(database, path):
    """Whatever its run directory is: the database knows."""
    campaign, _ = opened(database, path)
    give_to(database, campaign, ELSEWHERE)
    before = stored(database).config_json
    with pytest.raises(UserError, match=r"another driver .* 'checked'; got process \d+ on elsewhere") as told:
        opened(database, path, "stop.labels=60", "dir=somewhere-else")
    assert "\n" not in str(told.value)
    assert stored(database).config_json == before


def test_a_driver_that_shows_no_life_is_succeeded(database, path):
    campaign, _ = opened(database, path)
    give_to(database, campaign, ELSEWHERE, seconds=-1.0)
    assert opened(database, path)[1]
    assert stored(database).driver_host == driver.this_process().host


def test_a_dead_driver_of_this_machine_is_succeeded_at_once(database, path):
    campaign, _ = opened(database, path)
    give_to(database, campaign, replace(driver.this_process(), birth="1", life="before"))
    assert opened(database, path)[1]


def test_driving_gives_the_lease_back_and_notices_when_it_is_gone(database, path, monkeypatch):
    campaign, _ = opened(database, path)
    with driving(database, campaign.id):
        assert stored(database).driver_owner is not None
    assert stored(database).driver_owner is None
    monkeypatch.setattr(driver, "LEASE_SECONDS", 0.15)
    opened(database, path)
    with driving(database, campaign.id) as lease:
        give_to(database, campaign, ELSEWHERE, seconds=60.0)
        deadline = time.monotonic() + 10
        while not lease.lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lease.lost
    assert stored(database).driver_host == "elsewhere/0"


@pytest.mark.parametrize("state", [CampaignState.RUNNING, CampaignState.STOPPING])
def test_what_is_said_of_a_campaign_whose_driver_is_gone(database, path, state):
    campaign, _ = opened(database, path)
    give_to(database, campaign, replace(driver.this_process(), birth="1", life="before"))
    with database.begin() as session:
        set_campaign_state(session, campaign.id, state)
    said = f"{state.value} (no driver: run the same command to continue)"
    summary = summarise(database, "checked")
    assert (summary.shown_state, summary.driver) == (said, None)
    assert summary.to_json()["state"] == state.value
    assert summary.to_json()["abandoned"]
    run_dir = RunDir(path.parent)
    assert request_stop(run_dir, "checked") == said
    assert stored(database).state is state
    give_to(database, campaign, ELSEWHERE)
    assert summarise(database, "checked").shown_state == state.value
    assert request_stop(run_dir, "checked") == "STOPPING"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("the cluster is full", got="0 CPUs", fix="wait"), "the cluster is full; got 0 CPUs; wait"),
        (CampaignFailedError("the oracle\nis on strike"), "the oracle"),
        (RuntimeError("lost\nits way"), "the driver broke: RuntimeError: lost"),
    ],
)
def test_why_a_driver_failed_is_kept_in_one_line(database, path, monkeypatch, error, reason):
    checked = check(load_config(path))
    campaign, _ = open_campaign(database, checked)
    monkeypatch.setattr(campaign_module, "_stream", Mock(side_effect=error))
    expected = nullcontext() if isinstance(error, CampaignFailedError) else pytest.raises(type(error))
    with expected:
        assert campaign_module._conduct(checked, database, campaign, "", Console()) == EXIT_FAILED
    assert (stored(database).state, stored(database).stop_reason) == (CampaignState.FAILED, reason)
    assert stored(database).driver_owner is None


def test_a_driver_that_was_replaced_writes_no_state(database, path, monkeypatch):
    checked = check(load_config(path))
    campaign, _ = open_campaign(database, checked)

    def replaced(*arguments):
        give_to(database, campaign, ELSEWHERE)
        raise DriverReplacedError("another driver")

    monkeypatch.setattr(campaign_module, "_stream", replaced)
    before = stored(database).state
    assert campaign_module._conduct(checked, database, campaign, "", Console()) == EXIT_FAILED
    assert stored(database).state is before
    assert stored(database).driver_host == "elsewhere/0"


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

"""One command, one campaign: check, open or continue, run, and leave report, structures and summary behind."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from sqlalchemy import select
from sqlalchemy.orm import Session

from nearedge import inputs
from nearedge.config import CampaignConfig
from nearedge.confirmed import ORACLE_EVENT
from nearedge.driving import (
    DriverReplacedError,
    driving,
    is_abandoned,
    refuse_second_driver,
    shown_state,
)
from nearedge.interruption import GO_ON, Interruption, interruptible
from nearedge.preflight import Checked, check
from nearedge.room import warning_about_cpus
from nearedge.rundir import MLFLOW_FILE, RunDir, mlflow_uri_of_run, only_driver
from nearedge.site import warning_about
from nearedge.trackings import send_left_over
from nearedge_agents.champions import CHAMPIONS
from nearedge_agents.logs import FOLDER as LOGS
from nearedge_agents.logs import Source, logging_to
from nearedge_db import driver
from nearedge_db.database import DATABASE_FILE, Database, url_of_run
from nearedge_db.errors import UserError, one_line
from nearedge_db.hashing import content_hash
from nearedge_db.keepalive import KeepAlive
from nearedge_db.schema import Campaign, OracleSettings, TaskRow
from nearedge_db.states import CampaignState, TaskKind
from nearedge_db.store import (
    DRIVER,
    add_event,
    create_campaign,
    find_campaign,
    list_models,
    set_campaign_state,
)
from nearedge_services.oracles.base import Oracle
from nearedge_services.oracles.external import sweep_all
from nearedge_services.weights.labels import LabelledBy

logger = logging.getLogger(__name__)

EXIT_FINISHED, EXIT_FAILED, EXIT_STOPPED = 0, 1, 130

FIXED = ("seed", "target", "material", "seeds", "oracle", "generation.composition")
"""Settings that a campaign keeps for life, `run` of the oracle apart; all others may change when it is continued."""


def run_campaign(config: CampaignConfig) -> int:
    """Run or continue the campaign to its end; returns the exit status of the command.

    0: finished; 1: failed; 130: stopped or interrupted, to be continued by the same command. Raises UserError for
    anything wrong in the settings, before Ray starts.
    """
    console = Console()
    try:
        checked = check(config)
        with only_driver(config.run_dir):
            return _run_checked(checked, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; {GO_ON}")
        return EXIT_STOPPED


def _run_checked(checked: Checked, console: Console) -> int:
    config = checked.config
    RunDir(config.run_dir).check_owner(config.name)
    RunDir(config.run_dir).check_database(config.database)
    database = Database.open(config.database or url_of_run(config.run_dir))
    _tell_run_dir(config.run_dir, console)
    try:
        campaign, has_more_to_do = open_campaign(database, checked)
        tracking_uri = config.mlflow or mlflow_uri_of_run(config.run_dir)
        RunDir(config.run_dir).write(config.name, config.database, config.mlflow)
        if checked.mlflow_down is not None:
            console.print(
                f"{checked.mlflow_down}: trainings are kept, and sent when it answers",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if not has_more_to_do:
            console.print(f"campaign {config.name} is finished: {campaign.stop_reason}")
            send_left_over(database, campaign, RunDir(config.run_dir))
        else:
            _warn(warning_about_cpus(config))
            status = _conduct(checked, database, campaign, tracking_uri, console)
            if status != EXIT_FINISHED:
                return status
        _leave_results(database, config, console)
        return EXIT_FINISHED
    finally:
        database.dispose()
        sweep_all()  # actors are killed in the end, wherever they are


def _tell_run_dir(run_dir: Path, console: Console) -> None:
    """Where there is no terminal, in a job, nobody may know what the working directory is."""
    if not console.is_terminal:
        console.print(f"run directory: {run_dir.absolute()}", markup=False, highlight=False, soft_wrap=True)
    _warn(warning_about(run_dir))


def _warn(warning: str | None) -> None:
    if warning is not None:
        sys.stderr.write(f"{warning}\n")


def request_stop(run_dir: RunDir, name: str) -> str:
    """Ask the driver of a campaign to finish what is in flight and stop; returns the campaign's state for people.

    Where no driver is alive nothing is asked of anybody, and the state says so.
    """
    database = Database.open(run_dir.database_url, create=False)
    try:
        with database.begin() as session:
            campaign = find_campaign(session, name)
            if campaign is None:
                raise UserError("no such campaign in this database", got=name, fix="see `nearedge status`")
            abandoned = is_abandoned(campaign, driver.holder(campaign, database.now(session)))
            if campaign.state is CampaignState.RUNNING and not abandoned:
                set_campaign_state(session, campaign.id, CampaignState.STOPPING, "stop requested")
            return shown_state(campaign.state, abandoned)
    finally:
        database.dispose()


def open_campaign(database: Database, checked: Checked) -> tuple[Campaign, bool]:
    """The campaign's row, and whether there is something to do.

    There is nothing when it is finished, and `stop` and `confirm` are unchanged.

    It is a new one, or the one of this name if what defines it has not changed. Where there is something to do this
    process becomes its driver, and the settings are stored; a finished campaign keeps those it was run with.

    Raises UserError where the stored campaign has another seed, target, material, seeds or oracle, the target
    file had another content, or another driver is at work.
    """
    config = checked.config
    stored = config.model_dump(mode="json", exclude={"dir"})
    stored["target"]["file"] = str(config.target.file.absolute())
    if config.seeds.file is not None:
        stored["seeds"]["file"] = str(config.seeds.file.absolute())
    now = inputs.hashes(config)
    record = {**stored, **now}
    with database.begin() as session:
        campaign, has_more_to_do = find_campaign(session, config.name), True
        if campaign is None:
            campaign = create_campaign(
                session,
                config.name,
                record,
                seed=config.seed,
                absorber=checked.absorber,
                mlflow_experiment=config.name,
            )
            add_event(session, campaign.id, "target read", {"history": list(checked.spectrum.history)})
        else:
            before = _settings_of(campaign)
            inputs.follow(before, stored, campaign.config_json, now)
            _check_unchanged(config.name, _without_run(before), _without_run(stored))
            inputs.check_same(config.name, stored, campaign.config_json, now)
            changed = any(
                _without_run(before)[key] != _without_run(stored)[key] for key in ("stop", "confirm")
            )
            has_more_to_do = campaign.state is not CampaignState.FINISHED or changed
        if has_more_to_do:
            _check_same_labels(session, campaign, checked.oracle)
            holder = driver.take(session, campaign.id, driver.this_process(), database.now(session))
            if holder is not None:
                raise refuse_second_driver(holder, config.name)
            campaign.config_json, campaign.config_hash = record, content_hash(record)
        _register(session, checked.oracle)
        if checked.confirming is not None:
            _register(session, checked.confirming)
            if has_more_to_do:
                confirming = {"oracle": checked.confirming.name}
                confirming["settings_hash"] = checked.confirming.settings_hash
                add_event(session, campaign.id, ORACLE_EVENT, confirming)
        return campaign, has_more_to_do


def _register(session: Session, oracle: Oracle) -> None:
    if session.get(OracleSettings, oracle.settings_hash) is None:
        session.add(
            OracleSettings(
                settings_hash=oracle.settings_hash,
                oracle=oracle.name,
                settings_json=oracle.settings.model_dump(mode="json"),
            )
        )


def _settings_of(campaign: Campaign) -> dict[str, Any]:
    """The stored settings with today's defaults for keys that came later. Raises UserError if they fit no more."""
    settings = inputs.without_hashes(campaign.config_json)
    try:
        return CampaignConfig.model_validate(settings).model_dump(mode="json", exclude={"dir"})
    except ValidationError as error:
        raise UserError(
            f"campaign {campaign.name!r} was made with settings that this version does not know",
            got=error.errors()[0]["msg"],
            fix="choose another name or --dir",
        ) from None


def _check_unchanged(name: str, before: dict[str, Any], stored: dict[str, Any]) -> None:
    for key in FIXED:
        difference = _difference(key, _lookup(before, key), _lookup(stored, key))
        if difference is not None:
            where, old, new = difference
            raise UserError(
                f"campaign {name!r} exists with another {where}",
                got=f"{new!r}, it has {old!r}",
                fix="restore that setting to continue it, or choose another name or --dir",
            )


def _check_same_labels(session: Session, campaign: Campaign, oracle: Oracle) -> None:
    """Refuse an oracle whose labels would be of another kind than those of the campaign, by the same settings."""
    asked = select(TaskRow.settings_hash).where(
        TaskRow.campaign_id == campaign.id, TaskRow.kind.in_((TaskKind.LABEL, TaskKind.SEED))
    )
    known = {one for one in session.scalars(asked.distinct()) if one is not None}
    if known and oracle.settings_hash not in known:
        raise UserError(
            f"labels of {oracle.name} would no longer be those of campaign {campaign.name!r}",
            got="the same settings, and other pseudopotentials of the same names or another version of NearEdge",
            fix="put the files or the version back to continue it, or choose another name or --dir",
        )


def _without_run(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings without how the oracles are run, which is no part of a label's identity."""
    bare = dict(settings)
    for key in ("oracle", "confirm"):
        if bare[key] is not None:
            values = {name: value for name, value in bare[key]["settings"].items() if name != "run"}
            bare[key] = {**bare[key], "settings": values}
    return bare


def _difference(key: str, old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """Name of the first setting at or below ``key`` that differs, with its two values; None where all agree."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return None if old == new else (key, old, new)
    for name in sorted({*old, *new}):
        found = _difference(f"{key}.{name}", old.get(name), new.get(name))
        if found is not None:
            return found
    return None


def _lookup(settings: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        settings = settings[part]
    return settings


def _conduct(
    checked: Checked, database: Database, campaign: Campaign, tracking_uri: str, console: Console
) -> int:
    """Drive the campaign, and leave its state and why it ended in the database."""
    from nearedge.conductor.context import CampaignFailedError
    from nearedge.raycluster import RayLostError

    state, reason = CampaignState.FAILED, ""
    name = checked.config.name
    with (
        logging_to(checked.config.run_dir / LOGS, Source(name, DRIVER)),
        driving(database, campaign.id) as lease,
        interruptible(console) as interruption,
    ):
        logger.info("driver begins", extra={"data": {"pid": os.getpid()}})
        try:
            state, reason = _stream(checked, database, campaign, tracking_uri, console, lease, interruption)
        except (CampaignFailedError, RayLostError) as error:
            reason = one_line(error)
            sys.stderr.write(f"error: {reason}\n")
        except DriverReplacedError as error:
            sys.stderr.write(f"error: {error}\n")
        except KeyboardInterrupt:
            state, reason = CampaignState.STOPPED, "interrupted, nothing waited for"
            console.print(f"interrupted; {GO_ON}")
        except UserError as error:
            reason = str(error)
            raise
        except Exception as error:
            reason = f"the driver broke: {type(error).__name__}: {one_line(error)}"
            logger.exception("the driver broke")
            raise
        finally:
            logger.info("driver ends", extra={"data": {"state": state.value, "reason": reason}})
            with database.begin() as session:
                if driver.renew(session, campaign.id, driver.this_process(), database.now(session)):
                    set_campaign_state(session, campaign.id, state, reason)
    return {CampaignState.FINISHED: EXIT_FINISHED, CampaignState.STOPPED: EXIT_STOPPED}.get(
        state, EXIT_FAILED
    )


def _stream(
    checked: Checked,
    database: Database,
    campaign: Campaign,
    tracking_uri: str,
    console: Console,
    lease: KeepAlive,
    interruption: Interruption,
) -> tuple[CampaignState, str]:
    """Run the conductor on Ray; returns the state that the campaign is in then, and why."""
    from nearedge.conductor.conductor import Conductor
    from nearedge.conductor.context import Context
    from nearedge.progress import Display
    from nearedge.raycluster import ray_running
    from nearedge.steering import Steering
    from nearedge_agents.targets import load_target

    config = checked.config
    with database.begin() as session:
        set_campaign_state(session, campaign.id, CampaignState.RUNNING)
        is_new = not list_models(session, campaign.id)
    if is_new:
        console.print("\n".join(checked.start.lines()), markup=False, highlight=False, soft_wrap=True)
    LabelledBy.of(checked.oracle).write(config.run_dir / "models" / CHAMPIONS)
    context = Context(
        config=config,
        campaign_id=campaign.id,
        absorber=checked.absorber,
        spectrum=checked.spectrum,
        oracle=checked.oracle,
        confirming=checked.confirming,
        database=database,
        steering=Steering(config, database.url),
        start=checked.start,
        target=load_target(campaign) or checked.target,
        is_replaced=lambda: lease.lost,
    )
    with ray_running(config) as servers, Display(config, console) as display:
        conductor = Conductor(context, checked.starting, tracking_uri)

        def on_tick() -> None:
            servers.check()
            display.update(conductor)

        try:
            with interruption.asks(conductor):
                reason, finished = conductor.run(on_tick)
        finally:
            if conductor.given_up:
                console.print(
                    f"labels in flight given up: {conductor.given_up}; going on computes them again"
                )
    state = CampaignState.FINISHED if finished else CampaignState.STOPPED
    console.print(f"campaign {config.name}: {state.value.lower()} ({reason})")
    if not finished:
        console.print(GO_ON)
    return state, reason


def _leave_results(database: Database, config: CampaignConfig, console: Console) -> None:
    """Report, picture, best structures and the summary table."""
    from nearedge.export import export_best
    from nearedge.report import write_png, write_report
    from nearedge.status import print_summary
    from nearedge.summary import summarise

    folder: Path = config.run_dir
    summary = summarise(database, config.name)
    write_report(database, config.name, folder / "report.html")
    write_png(database, config.name, folder / "report.png")
    print_summary(summary, console)
    if summary.labels.guided:
        export_best(database, config.name, 20, folder / "best.extxyz")
    else:
        console.print("no guided structure was labelled: there are no best structures to write")
    for name in ("report.html", "best.extxyz", DATABASE_FILE, MLFLOW_FILE):
        if (folder / name).exists():
            console.print(f"  {folder / name}")

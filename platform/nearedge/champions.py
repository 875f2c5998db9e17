"""Choosing by hand which model a campaign uses. The database is the state; MLflow's alias follows when it can."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from nearedge.rundir import RunDir
from nearedge.trackings import campaign_of, tell_mlflow
from nearedge_agents.champions import link_champions
from nearedge_db.errors import UserError
from nearedge_db.schema import ModelRow
from nearedge_db.states import ModelKind
from nearedge_db.store import champion, list_models, promote, rollback
from nearedge_services.registry.kinds import registered_name


@dataclass(frozen=True)
class Chosen:
    """Who is champion now, and why MLflow does not say so yet, if it does not."""

    name: str
    """`version 3`, or `model 7, which MLflow does not have yet`."""
    untold: str | None


def use_version(run_dir: RunDir, kind: str, version: int) -> Chosen:
    """Make a registered version the champion of the run directory's campaign; links and alias follow.

    Raises UserError when the campaign has no such version or its files are gone.
    """
    registered_name(kind)

    def choose(session: Session, campaign_id: int) -> ModelRow:
        rows = list_models(session, campaign_id, kind)
        wanted = [row for row in rows if row.registered_version == version]
        if not wanted:
            known = ", ".join(str(row.registered_version) for row in rows if row.registered_version) or "none"
            unsent = sum(row.registered_version is None for row in rows)
            more = f" ({unsent} not in MLflow yet: `nearedge models sync`)" if unsent else ""
            raise UserError(
                f"no such version of the {kind} in this campaign",
                got=version,
                fix=f"choose from: {known}{more}",
            )
        if not (run_dir.path / wanted[-1].folder).is_dir():
            raise UserError(
                f"the files of version {version} of the {kind} are gone",
                got=run_dir.path / wanted[-1].folder,
                fix="choose another version",
            )
        present = champion(session, campaign_id, kind)
        already = present is not None and present.id == wanted[-1].id
        return wanted[-1] if already else promote(session, wanted[-1].id)

    return _choose(run_dir, choose)


def roll_back(run_dir: RunDir, kind: str) -> Chosen:
    """Make the champion before the present one the campaign's champion again; links and alias follow.

    Raises UserError when there was none before.
    """
    registered_name(kind)

    def choose(session: Session, campaign_id: int) -> ModelRow:
        try:
            return rollback(session, campaign_id, kind)
        except LookupError:
            present = champion(session, campaign_id, kind)
            raise UserError(
                f"there is no earlier champion of the {kind} to go back to",
                got="no champion" if present is None else f"{_name(present)} as the first champion",
                fix="see `nearedge models list`",
            ) from None

    return _choose(run_dir, choose)


def models_of(run_dir: RunDir, kind: str | None = None) -> list[ModelRow]:
    """Models of the run directory's campaign, by kind and in the order of their training."""
    database = run_dir.open_database()
    try:
        campaign = campaign_of(database, run_dir)
        with database.session() as session:
            rows = list_models(session, campaign.id, kind)
    finally:
        database.dispose()
    order = [one.value for one in ModelKind]
    return sorted(rows, key=lambda row: (order.index(row.kind), row.sequence))


def _choose(run_dir: RunDir, choose: Any) -> Chosen:
    database = run_dir.open_database()
    try:
        campaign = campaign_of(database, run_dir)
        with database.begin() as session:
            row = choose(session, campaign.id)
            name = _name(row)
        link_champions(database, campaign.id, run_dir.path)
        return Chosen(name, tell_mlflow(database, campaign, run_dir).trouble)
    finally:
        database.dispose()


def _name(row: ModelRow) -> str:
    if row.registered_version is None:
        return f"model {row.id}, which MLflow does not have yet,"
    return f"version {row.registered_version}"

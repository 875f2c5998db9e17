"""Trained models of a campaign, and which of them is the champion."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nearedge_db.schema import ModelRow, TaskRow
from nearedge_db.states import ModelKind, TaskKind, TaskState
from nearedge_db.types import utc_now

from .campaigns import add_event, lock_campaign


def add_model(
    session: Session,
    campaign_id: int,
    kind: ModelKind | str,
    *,
    dataset_hash: str,
    n_train: int,
    n_held_out: int,
    metrics: dict[str, Any],
    folder: str,
    seed: int,
    parent_id: int | None = None,
    mlflow_run_id: str | None = None,
    registered_name: str | None = None,
    registered_version: int | str | None = None,
) -> ModelRow:
    """A newly trained model, next in the sequence of its kind; not yet champion.

    ``metrics`` must be finite numbers (NaN is refused, ``ValueError``); ``folder`` holds the weights.
    """
    lock_campaign(session, campaign_id)
    highest = session.scalar(
        select(func.max(ModelRow.sequence)).where(
            ModelRow.campaign_id == campaign_id, ModelRow.kind == ModelKind(kind).value
        )
    )
    model = ModelRow(
        campaign_id=campaign_id,
        kind=ModelKind(kind).value,
        sequence=0 if highest is None else highest + 1,
        dataset_hash=dataset_hash,
        n_train=n_train,
        n_held_out=n_held_out,
        metrics_json={name: _plain(value) for name, value in metrics.items()},
        folder=str(folder),
        seed=seed,
        parent_id=parent_id,
        mlflow_run_id=mlflow_run_id,
        registered_name=registered_name,
        registered_version=None if registered_version is None else int(registered_version),
    )
    session.add(model)
    session.flush()
    return model


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers."""
    return value.item() if hasattr(value, "item") else value


def set_registered(session: Session, model_id: int, run_id: str, name: str, version: int) -> ModelRow:
    """What MLflow made of a model: its run, its registered name and version there."""
    model = get_model(session, model_id)
    model.mlflow_run_id, model.registered_name, model.registered_version = run_id, name, version
    session.flush()
    return model


def count_unsent(session: Session, campaign_id: int) -> int:
    """Models of a campaign that MLflow has not been told of, and is to be."""
    query = select(func.count()).where(
        TaskRow.campaign_id == campaign_id,
        TaskRow.kind == TaskKind.TRACK.value,
        TaskRow.state.not_in([TaskState.DONE, TaskState.CANCELLED]),
    )
    return session.scalar(query) or 0


def get_model(session: Session, model_id: int) -> ModelRow:
    """The model; raises ``LookupError`` when there is none of this number."""
    row = session.get(ModelRow, model_id)
    if row is None:
        raise LookupError(f"no model {model_id}")
    return row


def find_model(session: Session, campaign_id: int, folder: str) -> ModelRow:
    """The model of a campaign that is in this folder; raises ``LookupError`` when there is none."""
    query = select(ModelRow).where(ModelRow.campaign_id == campaign_id, ModelRow.folder == folder)
    row = session.scalars(query.order_by(ModelRow.id.desc()).limit(1)).first()
    if row is None:
        raise LookupError(f"campaign {campaign_id} has no model in {folder}")
    return row


def champion(session: Session, campaign_id: int, kind: ModelKind | str) -> ModelRow | None:
    """The model of this kind that the campaign uses, if there is one."""
    return session.scalar(select(ModelRow).where(*_of(campaign_id, kind), ModelRow.champion))


def champions(session: Session, campaign_id: int) -> dict[str, ModelRow]:
    """The models that the campaign uses: kind -> model, of the kinds that have one."""
    rows = session.scalars(select(ModelRow).where(ModelRow.campaign_id == campaign_id, ModelRow.champion))
    return {row.kind: row for row in rows}


def list_models(session: Session, campaign_id: int, kind: ModelKind | str | None = None) -> list[ModelRow]:
    """Models of a campaign, oldest first."""
    query = select(ModelRow).where(ModelRow.campaign_id == campaign_id).order_by(ModelRow.id)
    if kind is not None:
        query = query.where(ModelRow.kind == ModelKind(kind).value)
    return list(session.scalars(query))


def promote(session: Session, model_id: int) -> ModelRow:
    """Make a model the one champion of its campaign and kind; recorded as an event ``promote``."""
    model = get_model(session, model_id)
    previous = _crown(session, model)
    model.promoted_at = utc_now()
    session.flush()
    _record(session, "promote", model, previous)
    return model


def rollback(session: Session, campaign_id: int, kind: ModelKind | str) -> ModelRow:
    """Make the champion before the present one champion again; recorded as an event ``rollback``.

    Raises:
        LookupError: there is no earlier champion.
    """
    lock_campaign(session, campaign_id)
    present = champion(session, campaign_id, kind)
    earlier = None
    if present is not None:
        earlier = session.scalar(
            select(ModelRow)
            .where(*_of(campaign_id, kind), ModelRow.promoted_at < present.promoted_at)
            .order_by(ModelRow.promoted_at.desc(), ModelRow.id.desc())
            .limit(1)
        )
    if earlier is None:
        raise LookupError(f"campaign {campaign_id} has no earlier {kind} to go back to")
    previous = _crown(session, earlier)
    _record(session, "rollback", earlier, previous)
    return earlier


def _of(campaign_id: int, kind: ModelKind | str) -> tuple[Any, Any]:
    return (ModelRow.campaign_id == campaign_id, ModelRow.kind == ModelKind(kind).value)


def _crown(session: Session, model: ModelRow) -> ModelRow | None:
    """Pass the crown to ``model``; returns who had it."""
    lock_campaign(session, model.campaign_id)
    previous = champion(session, model.campaign_id, model.kind)
    session.execute(
        update(ModelRow).where(*_of(model.campaign_id, model.kind), ModelRow.champion).values(champion=False)
    )
    model.champion = True
    session.flush()
    return previous


def _record(session: Session, what: str, model: ModelRow, previous: ModelRow | None) -> None:
    data = {
        "kind": model.kind,
        "model_id": model.id,
        "previous_id": None if previous is None else previous.id,
    }
    add_event(session, model.campaign_id, what, data)

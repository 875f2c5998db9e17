"""The tables. Lengths in Å, energies in eV, spectral distances in 1/eV, times in seconds, timestamps in UTC.

``migrations/`` creates them; a test holds the two together. Arrays: see :mod:`nearedge_db.types`.
"""

from datetime import datetime
from typing import Annotated, Any

import numpy as np
from sqlalchemy import JSON, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from .states import (
    CampaignState,
    CandidateState,
    GenerationRole,
    GenerationState,
    LabelRole,
    StructureOrigin,
    TaskState,
)
from .types import Array, Real, UTCDateTime, Whole, enum_column, utc_now

Key = Annotated[int, mapped_column(primary_key=True)]
Created = Annotated[datetime, mapped_column(default=utc_now)]
Updated = Annotated[datetime, mapped_column(default=utc_now, onupdate=utc_now)]
Hash = Annotated[str, mapped_column(String(64))]
Seed = Annotated[int, mapped_column(Whole)]
Name = Annotated[str, mapped_column(String(255))]
LongText = Annotated[str, mapped_column(Text)]

CampaignKey = Annotated[int, mapped_column(ForeignKey("campaigns.id"))]
StructureKey = Annotated[int, mapped_column(ForeignKey("structures.id"))]
TaskKey = Annotated[int, mapped_column(ForeignKey("tasks.id"))]
ModelKey = Annotated[int, mapped_column(ForeignKey("models.id"))]
CandidateKey = Annotated[int, mapped_column(ForeignKey("candidates.id"))]
SettingsKey = Annotated[str, mapped_column(String(64), ForeignKey("oracle_settings.settings_hash"))]


_COLUMN_TYPES: dict[Any, Any] = {
    datetime: UTCDateTime(),
    float: Real(),
    np.ndarray: Array(),
    dict[str, Any]: JSON(none_as_null=True),
}
for _enum in (
    CampaignState,
    CandidateState,
    GenerationRole,
    GenerationState,
    LabelRole,
    StructureOrigin,
    TaskState,
):
    _COLUMN_TYPES[_enum] = enum_column(_enum)


class Base(DeclarativeBase):
    """Maps Python annotations to column types, and names every constraint."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = _COLUMN_TYPES


class Campaign(Base):
    """One search: a target spectrum, a composition, a configuration."""

    __tablename__ = "campaigns"

    id: Mapped[Key]
    name: Mapped[Name] = mapped_column(unique=True)
    state: Mapped[CampaignState] = mapped_column(default=CampaignState.CREATED)
    config_json: Mapped[dict[str, Any]]
    config_hash: Mapped[Hash]
    seed: Mapped[Seed]
    absorber: Mapped[str] = mapped_column(String(8))
    target_energies_ev: Mapped[np.ndarray | None]
    target_intensity: Mapped[np.ndarray | None]
    target_mask: Mapped[np.ndarray | None] = mapped_column(Array("bool"))
    alignment_json: Mapped[dict[str, Any] | None]
    mlflow_experiment: Mapped[Name | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    stop_reason: Mapped[LongText | None]
    driver_owner: Mapped[Name | None]
    """One life of one process, as in :mod:`nearedge_db.driver`; the other columns are its lease."""
    driver_host: Mapped[Name | None]
    driver_pid: Mapped[int | None]
    driver_heartbeat_at: Mapped[datetime | None]
    driver_expires_at: Mapped[datetime | None]


class Structure(Base):
    """Content of one structure, shared by all campaigns; positions (N, 3) and cell (3, 3) in Å."""

    __tablename__ = "structures"

    id: Mapped[Key]
    hash: Mapped[Hash] = mapped_column(unique=True)
    formula: Mapped[Name]
    n_atoms: Mapped[int]
    numbers: Mapped[np.ndarray] = mapped_column(Array("int64"))
    positions: Mapped[np.ndarray] = mapped_column(Array("float64"))
    cell: Mapped[np.ndarray] = mapped_column(Array("float64"))
    density_g_cm3: Mapped[float]
    cn2_fraction: Mapped[float | None]
    cn3_fraction: Mapped[float | None]
    cn4_fraction: Mapped[float | None]
    created_at: Mapped[Created]


class CampaignStructure(Base):
    """A structure in a campaign: where it came from, and whether models may train on it."""

    __tablename__ = "campaign_structures"
    __table_args__ = (UniqueConstraint("campaign_id", "structure_id"),)

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    structure_id: Mapped[StructureKey] = mapped_column(index=True)
    origin: Mapped[StructureOrigin]
    group_name: Mapped[Name]
    seed: Mapped[Seed | None]
    held_out: Mapped[bool] = mapped_column(default=False)
    candidate_id: Mapped[CandidateKey | None]
    """The candidate that brought it into the campaign, and with it the models that made it."""
    created_at: Mapped[Created]


class OracleSettings(Base):
    """An oracle and everything that decides its numbers."""

    __tablename__ = "oracle_settings"

    settings_hash: Mapped[Hash] = mapped_column(primary_key=True)
    oracle: Mapped[Name]
    settings_json: Mapped[dict[str, Any]]


class TaskRow(Base):
    """Expensive work in the ledger; :class:`nearedge_db.ledger.Task` is its detached form."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index(None, "state", "priority"),
        Index(None, "campaign_id", "kind", "state"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey | None]
    kind: Mapped[str] = mapped_column(String(16))
    identity: Mapped[Name] = mapped_column(unique=True)
    payload_json: Mapped[dict[str, Any]]
    state: Mapped[TaskState] = mapped_column(default=TaskState.PENDING)
    priority: Mapped[float] = mapped_column(default=0.0)
    attempts: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    owner: Mapped[Name | None] = mapped_column(index=True)
    lease_expires_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    seconds: Mapped[float | None]
    last_error: Mapped[LongText | None]
    structure_id: Mapped[StructureKey | None] = mapped_column(index=True)
    settings_hash: Mapped[SettingsKey | None]


class AttemptRow(Base):
    """One try at a task that has ended: how, with what settings, how long and how large."""

    __tablename__ = "attempts"

    id: Mapped[Key]
    task_id: Mapped[TaskKey] = mapped_column(index=True)
    number: Mapped[int]
    owner: Mapped[Name | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime]
    outcome: Mapped[str] = mapped_column(String(16))
    """``done``, ``lost`` (its worker died or went silent), or the kind of failure."""
    reason: Mapped[LongText | None]
    seconds: Mapped[float]
    changes_json: Mapped[dict[str, Any]]
    """Settings that differed from those that were asked for."""
    peak_gib: Mapped[float | None]
    runs: Mapped[int | None]
    """Calculations that followed each other in the whole label; None: not known."""


class LabelRow(Base):
    """An oracle on a structure: energy (eV), forces (N, 3) eV/Å, xanes (N, G), energies (G,) eV."""

    __tablename__ = "labels"
    __table_args__ = (UniqueConstraint("structure_id", "settings_hash"),)

    id: Mapped[Key]
    structure_id: Mapped[StructureKey]
    settings_hash: Mapped[SettingsKey]
    task_id: Mapped[TaskKey | None] = mapped_column(index=True)
    energy_ev: Mapped[float]
    forces: Mapped[np.ndarray] = mapped_column(Array("float64"))
    xanes: Mapped[np.ndarray] = mapped_column(Array("float32"))
    energies_ev: Mapped[np.ndarray] = mapped_column(Array("float64"))
    seconds: Mapped[float]
    details_json: Mapped[dict[str, Any]]
    created_at: Mapped[Created]


class LabelUse(Base):
    """A label put to use in a campaign, in order; the distance (1/eV) is to that campaign's target."""

    __tablename__ = "label_uses"
    __table_args__ = (
        UniqueConstraint("campaign_id", "label_id"),
        UniqueConstraint("campaign_id", "sequence"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    label_id: Mapped[int] = mapped_column(ForeignKey("labels.id"), index=True)
    role: Mapped[LabelRole]
    spectral_distance: Mapped[float | None]
    sequence: Mapped[int]
    candidate_id: Mapped[CandidateKey | None]
    """The candidate that was labelled: its models chose the structure; none chose a starting structure."""
    created_at: Mapped[Created]


class ModelRow(Base):
    """One trained model of a campaign; at most one champion of each kind."""

    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("campaign_id", "kind", "sequence"),
        Index(
            "uq_models_champion",
            "campaign_id",
            "kind",
            unique=True,
            sqlite_where=text("champion"),
            postgresql_where=text("champion"),
        ),
    )

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    kind: Mapped[str] = mapped_column(String(16))
    sequence: Mapped[int]
    dataset_hash: Mapped[Hash]
    n_train: Mapped[int]
    n_held_out: Mapped[int]
    metrics_json: Mapped[dict[str, Any]]
    folder: Mapped[LongText]
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    registered_name: Mapped[Name | None]
    registered_version: Mapped[int | None]
    champion: Mapped[bool] = mapped_column(default=False)
    parent_id: Mapped[ModelKey | None]
    created_at: Mapped[Created]
    promoted_at: Mapped[datetime | None]
    seed: Mapped[Seed]


class Generation(Base):
    """One batch of structures sampled with the same settings and models, those that had a part in it."""

    __tablename__ = "generations"
    __table_args__ = (
        UniqueConstraint("campaign_id", "role", "sequence"),
        Index(None, "campaign_id", "state"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    sequence: Mapped[int]
    role: Mapped[GenerationRole]
    state: Mapped[GenerationState] = mapped_column(default=GenerationState.OPEN)
    settings_json: Mapped[dict[str, Any]]
    seed: Mapped[Seed]
    trial_number: Mapped[int | None]
    prior_model_id: Mapped[ModelKey | None]
    surrogate_model_id: Mapped[ModelKey | None]
    potential_model_id: Mapped[ModelKey | None]
    created_at: Mapped[Created]
    closed_at: Mapped[datetime | None]


class Candidate(Base):
    """A generated structure on its way to the oracle, with the scores that it had last."""

    __tablename__ = "candidates"
    __table_args__ = (
        UniqueConstraint("generation_id", "index_in_generation"),
        Index(None, "campaign_id", "state"),
    )

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id"))
    index_in_generation: Mapped[int]
    structure_id: Mapped[StructureKey] = mapped_column(index=True)
    raw_structure_id: Mapped[StructureKey | None]
    state: Mapped[CandidateState] = mapped_column(default=CandidateState.WAITING)
    reason: Mapped[LongText | None]
    acquisition_value: Mapped[float | None]
    predicted_distance: Mapped[float | None]
    predicted_distance_std: Mapped[float | None]
    predicted_energy_per_atom_ev: Mapped[float | None]
    energy_std_per_atom_ev: Mapped[float | None]
    relax_rms_displacement_a: Mapped[float | None]
    shortest_contact_a: Mapped[float | None]
    task_id: Mapped[TaskKey | None] = mapped_column(index=True)
    surrogate_model_id: Mapped[ModelKey | None]
    potential_model_id: Mapped[ModelKey | None]
    """These two scored it last; those that relaxed it stay as they were."""
    relax_surrogate_model_id: Mapped[ModelKey | None]
    relax_potential_model_id: Mapped[ModelKey | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]


class Prediction(Base):
    """One scoring of a candidate; the history behind its last scores."""

    __tablename__ = "predictions"

    id: Mapped[Key]
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"), index=True)
    surrogate_model_id: Mapped[ModelKey | None]
    potential_model_id: Mapped[ModelKey | None]
    distance: Mapped[float | None]
    distance_std: Mapped[float | None]
    energy_per_atom_ev: Mapped[float | None]
    energy_std_per_atom_ev: Mapped[float | None]
    created_at: Mapped[Created]


class Event(Base):
    """Something that happened in a campaign."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "campaign_id", "kind"),)

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    at: Mapped[Created]
    kind: Mapped[str] = mapped_column(String(64))
    data_json: Mapped[dict[str, Any]]


class PoolUsage(Base):
    """Seconds of one agent pool in one run of the driver (``session``), accumulated."""

    __tablename__ = "pool_usage"
    __table_args__ = (UniqueConstraint("campaign_id", "session", "pool"),)

    id: Mapped[Key]
    campaign_id: Mapped[CampaignKey]
    session: Mapped[str] = mapped_column(String(64))
    pool: Mapped[str] = mapped_column(String(64))
    busy_seconds: Mapped[float] = mapped_column(default=0.0)
    capacity_seconds: Mapped[float] = mapped_column(default=0.0)
    cpu_seconds: Mapped[float] = mapped_column(default=0.0)
    tasks: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[Updated]

"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "campaigns",
    "structures",
    "campaign_structures",
    "oracle_settings",
    "tasks",
    "labels",
    "label_uses",
    "models",
    "generations",
    "candidates",
    "predictions",
    "events",
    "pool_usage",
)


def _key() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _reference(name: str, target: str, nullable: bool = False) -> sa.Column[Any]:
    kind = sa.String(64) if target.endswith("_hash") else sa.Integer
    return sa.Column(name, kind, sa.ForeignKey(target), nullable=nullable)


def _required(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _optional(*names: str, kind: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=True) for name in names]


def _moment(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _campaigns() -> None:
    op.create_table(
        "campaigns",
        _key(),
        _required("name", sa.String(255)),
        _required("state", sa.String(16)),
        _required("config_json", sa.JSON),
        _required("config_hash", sa.String(64)),
        _required("seed", sa.BigInteger),
        _required("absorber", sa.String(8)),
        *_optional("target_energies_ev", "target_intensity", "target_mask", kind=sa.LargeBinary),
        *_optional("alignment_json", kind=sa.JSON),
        *_optional("mlflow_experiment", kind=sa.String(255)),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        *_optional("stop_reason", kind=sa.Text),
        sa.UniqueConstraint("name"),
    )


def _structures() -> None:
    op.create_table(
        "structures",
        _key(),
        _required("hash", sa.String(64)),
        _required("formula", sa.String(255)),
        _required("n_atoms", sa.Integer),
        _required("numbers", sa.LargeBinary),
        _required("positions", sa.LargeBinary),
        _required("cell", sa.LargeBinary),
        _required("density_g_cm3", sa.Double),
        *_optional("cn2_fraction", "cn3_fraction", "cn4_fraction", kind=sa.Double),
        _moment("created_at"),
        sa.UniqueConstraint("hash"),
    )
    op.create_table(
        "campaign_structures",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _reference("structure_id", "structures.id"),
        _required("origin", sa.String(16)),
        _required("group_name", sa.String(255)),
        *_optional("seed", kind=sa.BigInteger),
        _required("held_out", sa.Boolean),
        _moment("created_at"),
        sa.UniqueConstraint("campaign_id", "structure_id"),
    )
    _index("campaign_structures", "structure_id")


def _tasks() -> None:
    op.create_table(
        "oracle_settings",
        sa.Column("settings_hash", sa.String(64), primary_key=True),
        _required("oracle", sa.String(255)),
        _required("settings_json", sa.JSON),
    )
    op.create_table(
        "tasks",
        _key(),
        _reference("campaign_id", "campaigns.id", nullable=True),
        _required("kind", sa.String(16)),
        _required("identity", sa.String(255)),
        _required("payload_json", sa.JSON),
        _required("state", sa.String(16)),
        _required("priority", sa.Double),
        _required("attempts", sa.Integer),
        _required("max_attempts", sa.Integer),
        *_optional("owner", kind=sa.String(255)),
        _moment("lease_expires_at", nullable=True),
        _moment("heartbeat_at", nullable=True),
        _moment("created_at"),
        _moment("started_at", nullable=True),
        _moment("finished_at", nullable=True),
        *_optional("seconds", kind=sa.Double),
        *_optional("last_error", kind=sa.Text),
        _reference("structure_id", "structures.id", nullable=True),
        _reference("settings_hash", "oracle_settings.settings_hash", nullable=True),
        sa.UniqueConstraint("identity"),
    )
    _index("tasks", "state", "priority")
    _index("tasks", "campaign_id", "kind", "state")
    _index("tasks", "owner")
    _index("tasks", "structure_id")


def _labels() -> None:
    op.create_table(
        "labels",
        _key(),
        _reference("structure_id", "structures.id"),
        _reference("settings_hash", "oracle_settings.settings_hash"),
        _reference("task_id", "tasks.id", nullable=True),
        _required("energy_ev", sa.Double),
        _required("forces", sa.LargeBinary),
        _required("xanes", sa.LargeBinary),
        _required("energies_ev", sa.LargeBinary),
        _required("seconds", sa.Double),
        _required("details_json", sa.JSON),
        _moment("created_at"),
        sa.UniqueConstraint("structure_id", "settings_hash"),
    )
    _index("labels", "task_id")
    op.create_table(
        "label_uses",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _reference("label_id", "labels.id"),
        _required("role", sa.String(16)),
        *_optional("spectral_distance", kind=sa.Double),
        _required("sequence", sa.Integer),
        _moment("created_at"),
        sa.UniqueConstraint("campaign_id", "label_id"),
        sa.UniqueConstraint("campaign_id", "sequence"),
    )
    _index("label_uses", "label_id")


def _models() -> None:
    op.create_table(
        "models",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _required("kind", sa.String(16)),
        _required("sequence", sa.Integer),
        _required("dataset_hash", sa.String(64)),
        _required("n_train", sa.Integer),
        _required("n_held_out", sa.Integer),
        _required("metrics_json", sa.JSON),
        _required("folder", sa.Text),
        *_optional("mlflow_run_id", kind=sa.String(64)),
        *_optional("registered_name", kind=sa.String(255)),
        *_optional("registered_version", kind=sa.Integer),
        _required("champion", sa.Boolean),
        _reference("parent_id", "models.id", nullable=True),
        _moment("created_at"),
        _moment("promoted_at", nullable=True),
        _required("seed", sa.BigInteger),
        sa.UniqueConstraint("campaign_id", "kind", "sequence"),
    )
    only = sa.text("champion")
    op.create_index(
        "uq_models_champion",
        "models",
        ["campaign_id", "kind"],
        unique=True,
        sqlite_where=only,
        postgresql_where=only,
    )


def _generations() -> None:
    op.create_table(
        "generations",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _required("sequence", sa.Integer),
        _required("role", sa.String(16)),
        _required("state", sa.String(16)),
        _required("settings_json", sa.JSON),
        _required("seed", sa.BigInteger),
        *_optional("trial_number", kind=sa.Integer),
        _reference("prior_model_id", "models.id", nullable=True),
        _reference("surrogate_model_id", "models.id", nullable=True),
        _reference("potential_model_id", "models.id", nullable=True),
        _moment("created_at"),
        _moment("closed_at", nullable=True),
        sa.UniqueConstraint("campaign_id", "role", "sequence"),
    )
    _index("generations", "campaign_id", "state")


def _candidates() -> None:
    op.create_table(
        "candidates",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _reference("generation_id", "generations.id"),
        _required("index_in_generation", sa.Integer),
        _reference("structure_id", "structures.id"),
        _reference("raw_structure_id", "structures.id", nullable=True),
        _required("state", sa.String(16)),
        *_optional("reason", kind=sa.Text),
        *_optional(
            "acquisition_value",
            "predicted_distance",
            "predicted_distance_std",
            "predicted_energy_per_atom_ev",
            "energy_std_per_atom_ev",
            "relax_rms_displacement_a",
            "shortest_contact_a",
            kind=sa.Double,
        ),
        _reference("task_id", "tasks.id", nullable=True),
        _reference("surrogate_model_id", "models.id", nullable=True),
        _reference("potential_model_id", "models.id", nullable=True),
        _moment("created_at"),
        _moment("updated_at"),
        sa.UniqueConstraint("generation_id", "index_in_generation"),
    )
    _index("candidates", "campaign_id", "state")
    _index("candidates", "structure_id")
    _index("candidates", "task_id")
    op.create_table(
        "predictions",
        _key(),
        _reference("candidate_id", "candidates.id"),
        _reference("surrogate_model_id", "models.id", nullable=True),
        _reference("potential_model_id", "models.id", nullable=True),
        *_optional(
            "distance", "distance_std", "energy_per_atom_ev", "energy_std_per_atom_ev", kind=sa.Double
        ),
        _moment("created_at"),
    )
    _index("predictions", "candidate_id")


def _records() -> None:
    op.create_table(
        "events",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _moment("at"),
        _required("kind", sa.String(64)),
        _required("data_json", sa.JSON),
    )
    _index("events", "campaign_id", "kind")
    op.create_table(
        "pool_usage",
        _key(),
        _reference("campaign_id", "campaigns.id"),
        _required("session", sa.String(64)),
        _required("pool", sa.String(64)),
        *[_required(name, sa.Double) for name in ("busy_seconds", "capacity_seconds", "cpu_seconds")],
        _required("tasks", sa.Integer),
        _moment("updated_at"),
        sa.UniqueConstraint("campaign_id", "session", "pool"),
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f("_".join(("ix", table, *columns))), table, list(columns))


def upgrade() -> None:
    """Create every table."""
    for create in (_campaigns, _structures, _tasks, _labels, _models, _generations, _candidates, _records):
        create()


def downgrade() -> None:
    """Drop every table."""
    for table in reversed(TABLES):
        op.drop_table(table)

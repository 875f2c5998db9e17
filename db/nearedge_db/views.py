"""SQL views: the public interface for readers of the database (columns and units: ``docs/sql.md``).

They run on SQLite and PostgreSQL alike. An upgrade drops them, migrates the tables and creates them anew,
so a change here goes with a new revision under ``migrations/versions`` (an empty one if no table changes).
"""

from sqlalchemy import Connection, text

_DISCOVERED_STRUCTURES = """
SELECT
    structures.id AS structure_id,
    campaigns.name AS campaign,
    structures.formula,
    structures.n_atoms,
    structures.density_g_cm3,
    labels.energy_ev / structures.n_atoms AS energy_per_atom_ev,
    label_uses.spectral_distance,
    candidates.predicted_distance_std AS spectral_distance_std,
    structures.cn2_fraction,
    structures.cn3_fraction,
    structures.cn4_fraction,
    oracle_settings.oracle,
    labels.settings_hash,
    surrogate.registered_version AS surrogate_version,
    potential.registered_version AS potential_version,
    prior.registered_version AS prior_version,
    campaign_structures.origin,
    campaign_structures.seed,
    surrogate.mlflow_run_id,
    label_uses.created_at,
    label_uses.role,
    label_uses.sequence,
    candidates.predicted_distance,
    candidates.shortest_contact_a,
    campaign_structures.held_out,
    structures.hash AS structure_hash,
    labels.id AS label_id,
    candidates.id AS candidate_id,
    prior.id AS prior_model_id,
    prior.mlflow_run_id AS prior_run_id,
    surrogate.id AS surrogate_model_id,
    surrogate.mlflow_run_id AS surrogate_run_id,
    potential.id AS potential_model_id,
    potential.mlflow_run_id AS potential_run_id
FROM label_uses
JOIN campaigns ON campaigns.id = label_uses.campaign_id
JOIN labels ON labels.id = label_uses.label_id
JOIN structures ON structures.id = labels.structure_id
JOIN oracle_settings ON oracle_settings.settings_hash = labels.settings_hash
LEFT JOIN campaign_structures ON campaign_structures.campaign_id = label_uses.campaign_id
    AND campaign_structures.structure_id = labels.structure_id
LEFT JOIN candidates ON candidates.id = label_uses.candidate_id
LEFT JOIN generations ON generations.id = candidates.generation_id
LEFT JOIN models AS prior ON prior.id = generations.prior_model_id
LEFT JOIN models AS surrogate ON surrogate.id = candidates.surrogate_model_id
LEFT JOIN models AS potential ON potential.id = candidates.potential_model_id
WHERE label_uses.role <> 'confirm'
"""

# Labels of the second oracle, beside the distance that the campaign's own found: neither may stand for the other.
_CONFIRMED_STRUCTURES = """
SELECT
    structures.id AS structure_id,
    campaigns.name AS campaign,
    structures.formula,
    structures.n_atoms,
    structures.density_g_cm3,
    label_uses.spectral_distance,
    labels.energy_ev / structures.n_atoms AS energy_per_atom_ev,
    oracle_settings.oracle,
    labels.settings_hash,
    labels.seconds,
    discovered_structures.role AS screened_as,
    discovered_structures.spectral_distance AS screening_distance,
    discovered_structures.oracle AS screening_oracle,
    discovered_structures.settings_hash AS screening_settings_hash,
    label_uses.sequence,
    label_uses.created_at,
    structures.hash AS structure_hash,
    labels.id AS label_id
FROM label_uses
JOIN campaigns ON campaigns.id = label_uses.campaign_id
JOIN labels ON labels.id = label_uses.label_id
JOIN structures ON structures.id = labels.structure_id
JOIN oracle_settings ON oracle_settings.settings_hash = labels.settings_hash
LEFT JOIN discovered_structures ON discovered_structures.campaign = campaigns.name
    AND discovered_structures.structure_id = structures.id
WHERE label_uses.role = 'confirm'
"""

_LABELS_LEDGER = """
SELECT
    tasks.id AS task_id,
    campaigns.name AS campaign,
    structures.hash AS structure_hash,
    oracle_settings.oracle,
    tasks.settings_hash,
    tasks.state,
    tasks.attempts,
    tasks.seconds,
    tasks.last_error AS error,
    tasks.kind,
    tasks.structure_id,
    tasks.owner,
    tasks.created_at,
    tasks.started_at,
    tasks.finished_at
FROM tasks
LEFT JOIN campaigns ON campaigns.id = tasks.campaign_id
LEFT JOIN structures ON structures.id = tasks.structure_id
LEFT JOIN oracle_settings ON oracle_settings.settings_hash = tasks.settings_hash
WHERE tasks.kind IN ('label', 'seed')
"""

_LABEL_ATTEMPTS = """
SELECT
    attempts.id AS attempt_id,
    attempts.task_id,
    campaigns.name AS campaign,
    tasks.kind,
    structures.hash AS structure_hash,
    structures.n_atoms,
    oracle_settings.oracle,
    tasks.settings_hash,
    attempts.number,
    attempts.outcome,
    attempts.reason,
    attempts.changes_json AS changed_settings,
    attempts.seconds,
    attempts.peak_gib,
    attempts.owner,
    attempts.started_at,
    attempts.ended_at,
    attempts.runs
FROM attempts
JOIN tasks ON tasks.id = attempts.task_id
LEFT JOIN campaigns ON campaigns.id = tasks.campaign_id
LEFT JOIN structures ON structures.id = tasks.structure_id
LEFT JOIN oracle_settings ON oracle_settings.settings_hash = tasks.settings_hash
WHERE tasks.kind IN ('label', 'seed')
"""

# Distances from different oracles do not compare, so the best so far is kept for each of them.
_CAMPAIGN_PROGRESS = """
SELECT
    campaigns.name AS campaign,
    label_uses.sequence,
    label_uses.role,
    label_uses.spectral_distance,
    MIN(label_uses.spectral_distance) OVER (
        PARTITION BY label_uses.campaign_id, labels.settings_hash
        ORDER BY label_uses.sequence ROWS UNBOUNDED PRECEDING) AS best_so_far,
    label_uses.created_at,
    oracle_settings.oracle,
    labels.settings_hash,
    labels.structure_id,
    labels.seconds
FROM label_uses
JOIN campaigns ON campaigns.id = label_uses.campaign_id
JOIN labels ON labels.id = label_uses.label_id
JOIN oracle_settings ON oracle_settings.settings_hash = labels.settings_hash
"""

_MODEL_VERSIONS = """
SELECT
    models.id AS model_id,
    campaigns.name AS campaign,
    models.kind,
    models.sequence,
    models.registered_name,
    models.registered_version,
    models.champion,
    models.n_train,
    models.n_held_out,
    models.metrics_json,
    models.dataset_hash,
    models.seed,
    models.mlflow_run_id,
    models.parent_id,
    models.created_at,
    models.promoted_at
FROM models
JOIN campaigns ON campaigns.id = models.campaign_id
"""

_POOL_OCCUPANCY = """
SELECT
    campaigns.name AS campaign,
    pool_usage.pool,
    SUM(pool_usage.busy_seconds) AS busy_seconds,
    SUM(pool_usage.capacity_seconds) AS capacity_seconds,
    SUM(pool_usage.cpu_seconds) AS cpu_seconds,
    SUM(pool_usage.tasks) AS tasks,
    SUM(pool_usage.busy_seconds) / NULLIF(SUM(pool_usage.capacity_seconds), 0.0) AS occupancy,
    SUM(pool_usage.cpu_seconds) / NULLIF(SUM(pool_usage.capacity_seconds), 0.0) AS cpu_utilisation,
    COUNT(*) AS sessions
FROM pool_usage
JOIN campaigns ON campaigns.id = pool_usage.campaign_id
GROUP BY campaigns.name, pool_usage.pool
"""

_PREDICTION_MODELS = """
SELECT
    predictions.id AS prediction_id,
    campaigns.name AS campaign,
    candidates.id AS candidate_id,
    candidates.structure_id,
    predictions.distance,
    predictions.distance_std,
    predictions.energy_per_atom_ev,
    predictions.energy_std_per_atom_ev,
    surrogate.id AS surrogate_model_id,
    surrogate.registered_version AS surrogate_version,
    surrogate.mlflow_run_id AS surrogate_run_id,
    potential.id AS potential_model_id,
    potential.registered_version AS potential_version,
    potential.mlflow_run_id AS potential_run_id,
    predictions.created_at
FROM predictions
JOIN candidates ON candidates.id = predictions.candidate_id
JOIN campaigns ON campaigns.id = candidates.campaign_id
LEFT JOIN models AS surrogate ON surrogate.id = predictions.surrogate_model_id
LEFT JOIN models AS potential ON potential.id = predictions.potential_model_id
"""

_PARTS = (
    ("sampled", "candidates.raw_structure_id", "generations.prior_model_id"),
    ("guided", "candidates.raw_structure_id", "generations.surrogate_model_id"),
    ("sampled", "candidates.structure_id", "generations.prior_model_id"),
    ("guided", "candidates.structure_id", "generations.surrogate_model_id"),
    ("relaxed", "candidates.structure_id", "candidates.relax_potential_model_id"),
    ("relaxed", "candidates.structure_id", "candidates.relax_surrogate_model_id"),
    ("scored", "candidates.structure_id", "candidates.surrogate_model_id"),
    ("scored", "candidates.structure_id", "candidates.potential_model_id"),
)
"""What models do to a structure: the raw one is sampled, the candidate's has been relaxed from it."""

_STRUCTURE_MODELS = "\nUNION\n".join(
    f"""
SELECT
    campaigns.name AS campaign,
    {structure} AS structure_id,
    candidates.id AS candidate_id,
    '{part}' AS part,
    models.kind,
    models.id AS model_id,
    models.registered_name,
    models.registered_version,
    models.mlflow_run_id
FROM candidates
JOIN campaigns ON campaigns.id = candidates.campaign_id
JOIN generations ON generations.id = candidates.generation_id
JOIN models ON models.id = {model}
WHERE {structure} IS NOT NULL
"""  # noqa: S608 - our own names
    for part, structure, model in _PARTS
)

VIEWS: dict[str, str] = {
    "discovered_structures": _DISCOVERED_STRUCTURES,
    "confirmed_structures": _CONFIRMED_STRUCTURES,
    "labels_ledger": _LABELS_LEDGER,
    "label_attempts": _LABEL_ATTEMPTS,
    "campaign_progress": _CAMPAIGN_PROGRESS,
    "model_versions": _MODEL_VERSIONS,
    "structure_models": _STRUCTURE_MODELS,
    "prediction_models": _PREDICTION_MODELS,
    "pool_occupancy": _POOL_OCCUPANCY,
}


def drop_views(connection: Connection) -> None:
    """Drop every view that exists, those that build on others first."""
    for name in reversed(VIEWS):
        connection.execute(text(f"DROP VIEW IF EXISTS {name}"))


def create_views(connection: Connection) -> None:
    """Create every view; the tables must be at the newest revision."""
    for name, query in VIEWS.items():
        connection.execute(text(f"CREATE VIEW {name} AS {query}"))

"""MLflow in order at the end of a session, whatever was cut short."""

from nearedge.conductor.context import Context
from nearedge_agents.champions import tidy
from nearedge_db.errors import UserError, one_line
from nearedge_services.registry.mlflow_library import mlflow_module
from nearedge_services.registry.model_registry import ModelRegistry
from nearedge_services.registry.reachable import check_answers


def tidy_registry(context: Context, tracking_uri: str) -> None:
    """Close the runs of killed trainings and show the champions; what MLflow does not take is left for next time."""
    try:
        check_answers(tracking_uri)
        registry = ModelRegistry(tracking_uri, context.config.name)
        tidy(context.database, context.campaign_id, registry, context.run_dir)
    except (mlflow_module().exceptions.MlflowException, UserError, OSError) as error:
        context.event("MLflow left untidy", error=one_line(error))

"""MLflow in order at the end of a session, as far as it lets us."""

from nearedge.conductor.context import Context
from nearedge_agents.tracking import Patiently, Sender


def tidy_registry(context: Context, tracking_uri: str) -> None:
    """Send what MLflow does not have and show the champions; what it does not take is left for next time."""
    sender = Sender(
        context.database, context.campaign_id, tracking_uri, context.config.name, context.run_dir.absolute()
    )
    report = Patiently().run(lambda: sender.send(opening=True))
    if report.trouble is not None:
        context.event("MLflow left untidy", error=report.trouble, unsent=report.unsent)

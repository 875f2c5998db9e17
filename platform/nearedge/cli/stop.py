"""``nearedge stop``: ask a running campaign to finish what is in flight and stop."""

from pathlib import Path
from typing import Annotated

import typer


def stop(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run directory; default: runs/CAMPAIGN.")
    ] = None,
) -> None:
    """Finish what is in flight, then stop. `nearedge run` with the same settings goes on from there.

    Example: nearedge stop quickstart
    """
    from rich.console import Console

    from nearedge.campaign import request_stop
    from nearedge.cli.outputs import existing_run

    state = request_stop(existing_run(campaign, directory), campaign)
    Console().print(f"campaign {campaign}: {state}")

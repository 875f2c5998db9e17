"""``nearedge run``: start a campaign, or continue it."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    config: Annotated[Path, typer.Argument(help="Settings of the campaign (YAML).", metavar="CONFIG.yaml")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: key.sub=value.", metavar="KEY=VALUE")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Run directory; default: `dir` of the settings, or runs/NAME."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is left to chance.")] = None,
) -> None:
    """Start, or continue, the campaign that CONFIG.yaml describes.

    Ctrl-C stops it without losing anything; the same command goes on from there.

    Example: nearedge run examples/quickstart.yaml --set stop.labels=30
    """
    import json

    from nearedge.campaign import run_campaign
    from nearedge.config import load_config

    overrides = list(set_ or [])
    overrides += [f"dir={json.dumps(str(directory))}"] if directory is not None else []
    overrides += [f"seed={seed}"] if seed is not None else []
    raise typer.Exit(run_campaign(load_config(config, overrides)))

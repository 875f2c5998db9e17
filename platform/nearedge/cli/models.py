"""`nearedge models`: what the registry holds, and which version is used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearedge_db.errors import UserError
from nearedge_db.redaction import without_password

if TYPE_CHECKING:
    from datetime import datetime

    from nearedge.champions import Chosen
    from nearedge.rundir import RunDir
    from nearedge_db.schema import ModelRow
    from nearedge_services.registry.model_registry import ModelRegistry, ModelVersion

app = typer.Typer(no_args_is_help=True, help="List, promote and roll back the trained models of a campaign.")

_SQLITE = "sqlite:///"

Dir = Annotated[Path | None, typer.Option("--dir", help="Run directory of a campaign: its models.")]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow store, instead of --dir: all that it holds.")
]
Kind = Annotated[str, typer.Argument(help="prior, surrogate or potential.")]


@app.command("list")
def list_models(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    run_dir: Dir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show every model with its version, its headline metrics and the champion.

    A campaign's models are read from its database: also those that MLflow does not have yet.

    Example: nearedge models list --dir runs/carbon
    """
    from nearedge_services.registry.kinds import KINDS, registered_name

    if kind is not None:
        registered_name(kind)
    campaign = _campaign(run_dir, tracking_uri)
    if campaign is not None:
        from nearedge.champions import models_of

        rows = [_of_campaign(model) for model in models_of(campaign, kind)]
    else:
        with _registry(run_dir, tracking_uri) as registry:
            found = [version for one in ([kind] if kind else KINDS) for version in registry.versions(one)]
        rows = [_of_registry(version) for version in found]
    Console().print(_table(rows) if rows else "no models are registered yet")


@app.command()
def promote(
    kind: Kind,
    version: Annotated[int, typer.Argument(help="Version that becomes the champion.")],
    run_dir: Dir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make a version the champion, whatever its metrics say; a running campaign takes it up.

    Example: nearedge models promote surrogate 3 --dir runs/carbon
    """
    campaign = _campaign(run_dir, tracking_uri)
    if campaign is not None:
        from nearedge.champions import use_version

        _say(kind, use_version(campaign, kind, version), "is the champion")
        return
    with _registry(run_dir, tracking_uri) as registry:
        registry.promote(kind, version)
    Console().print(f"{kind} version {version} is the champion")


@app.command()
def rollback(kind: Kind, run_dir: Dir = None, tracking_uri: TrackingUri = None) -> None:
    """Make the previous champion the champion again; a running campaign takes it up.

    Example: nearedge models rollback surrogate --dir runs/carbon
    """
    campaign = _campaign(run_dir, tracking_uri)
    if campaign is not None:
        from nearedge.champions import roll_back

        _say(kind, roll_back(campaign, kind), "is the champion again")
        return
    with _registry(run_dir, tracking_uri) as registry:
        version = registry.rollback(kind)
    Console().print(f"{kind} version {version} is the champion again")


@app.command()
def sync(
    campaign: Annotated[str | None, typer.Argument(help="Name of the campaign.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--dir", help="Run directory; default: runs/CAMPAIGN.")
    ] = None,
) -> None:
    """Send MLflow the trainings that it did not take while the campaign ran; exit status 1 where some are left.

    Example: nearedge models sync carbon
    """
    from nearedge.cli.outputs import existing_run
    from nearedge.trackings import sync as send

    if campaign is None and run_dir is None:
        raise UserError("the campaign is not named", fix="give its name, or its run directory with --dir")
    report = send(existing_run(campaign or "", run_dir), campaign)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"sent: {report.sent}; MLflow does not have yet: {report.unsent}")
    if report.trouble is not None:
        console.print(report.trouble)
    if report.unsent or report.trouble is not None:
        raise typer.Exit(1)


def _say(kind: str, chosen: "Chosen", what: str) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{kind} {chosen.name} {what}")
    if chosen.untold is not None:
        console.print(f"MLflow will be told by the next run, or by `nearedge models sync`: {chosen.untold}")


def _campaign(run_dir: Path | None, tracking_uri: str | None) -> "RunDir | None":
    """The run directory, where the options name one that a campaign has written."""
    from nearedge.rundir import RunDir

    if run_dir is None or tracking_uri is not None or not RunDir(run_dir).exists:
        return None
    return RunDir(run_dir)


@contextmanager
def _registry(run_dir: Path | None, tracking_uri: str | None) -> "Iterator[ModelRegistry]":
    """The registry that the options name.

    Raises UserError unless exactly one of them does and the store exists, and when the store cannot be used.
    """
    from nearedge.rundir import mlflow_uri_of_run

    if (run_dir is None) == (tracking_uri is None):
        raise UserError(
            "the registry is not named",
            got="both --dir and --tracking-uri" if run_dir else "neither --dir nor --tracking-uri",
            fix="give one of them",
        )
    uri = tracking_uri or mlflow_uri_of_run(run_dir or Path())
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        raise UserError(
            "there is no model registry here",
            got=uri.removeprefix(_SQLITE),
            fix="name the folder of a campaign that has run (--dir)",
        )
    from sqlalchemy.exc import SQLAlchemyError

    from nearedge_services.registry.mlflow_library import mlflow_module
    from nearedge_services.registry.model_registry import ModelRegistry
    from nearedge_services.registry.reachable import bound_requests, check_answers

    bound_requests()
    check_answers(uri)
    unusable = (mlflow_module().exceptions.MlflowException, SQLAlchemyError, ModuleNotFoundError)
    try:
        yield ModelRegistry(uri, experiment="")
    # A store that MLflow does not know, a server that stops answering, a database whose driver is not installed.
    except unusable as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            "the model registry cannot be used",
            got=f"{without_password(uri)} ({reason})",
            fix="give --dir, or a URI such as sqlite:////path/mlflow.db",
        ) from error


def _metrics(kind: str, metrics: Mapping[str, float]) -> str:
    """The metric that decides promotion, and two more."""
    from nearedge.summary import HEADLINES

    names = sorted(metrics, key=lambda name: (name != HEADLINES.get(kind), name))
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names[:3])


def _of_registry(found: "ModelVersion") -> tuple[str, ...]:
    return _row(found.kind, found.version, found.is_champion, found.created_at, found.metrics, found.run_id)


def _of_campaign(model: "ModelRow") -> tuple[str, ...]:
    version, run_id = model.registered_version, model.mlflow_run_id
    return _row(model.kind, version, model.champion, model.created_at, model.metrics_json, run_id)


def _row(
    kind: str,
    version: int | None,
    is_champion: bool,
    trained: "datetime",
    metrics: Mapping[str, float],
    run_id: str | None,
) -> tuple[str, ...]:
    return (
        kind,
        "not sent yet" if version is None else str(version),
        "yes" if is_champion else "",
        f"{trained:%Y-%m-%d %H:%M}",
        _metrics(kind, metrics),
        "" if run_id is None else run_id[:8],
    )


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table("model", "version", "champion", "trained (UTC)", "metrics", "run")
    for row in rows:
        table.add_row(*row)
    return table

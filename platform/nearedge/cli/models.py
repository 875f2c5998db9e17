"""`nearedge models`: what the registry holds, and which version is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from nearedge_db.errors import UserError
from nearedge_db.redaction import without_password

if TYPE_CHECKING:
    from nearedge_services.registry.model_registry import ModelRegistry, ModelVersion

app = typer.Typer(no_args_is_help=True, help="List, promote and roll back the trained models of a campaign.")

_SQLITE = "sqlite:///"

Dir = Annotated[Path | None, typer.Option("--dir", help="Folder of the run: its mlflow.db is the registry.")]
TrackingUri = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow store, instead of --dir.")]
Kind = Annotated[str, typer.Argument(help="prior, surrogate or potential.")]


@app.command("list")
def list_models(
    kind: Annotated[str | None, typer.Argument(help="Only this kind.")] = None,
    run_dir: Dir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Show every registered version, its headline metrics and the champion.

    Example: nearedge models list --dir runs/carbon
    """
    from nearedge_services.registry.kinds import KINDS, registered_name

    if kind is not None:
        registered_name(kind)
    with _registry(run_dir, tracking_uri) as registry:
        found = [version for one in ([kind] if kind else KINDS) for version in registry.versions(one)]
    Console().print(_table(found) if found else "no models are registered yet")


@app.command()
def promote(
    kind: Kind,
    version: Annotated[int, typer.Argument(help="Version that becomes the champion.")],
    run_dir: Dir = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Make a version the champion, whatever its metrics say.

    Example: nearedge models promote surrogate 3 --dir runs/carbon
    """
    with _registry(run_dir, tracking_uri) as registry:
        registry.promote(kind, version)
    _tell_campaign(run_dir, kind, version)
    Console().print(f"{kind} version {version} is the champion")


@app.command()
def rollback(kind: Kind, run_dir: Dir = None, tracking_uri: TrackingUri = None) -> None:
    """Make the previous champion the champion again.

    Example: nearedge models rollback surrogate --dir runs/carbon
    """
    with _registry(run_dir, tracking_uri) as registry:
        version = registry.rollback(kind)
    _tell_campaign(run_dir, kind, version)
    Console().print(f"{kind} version {version} is the champion again")


def _tell_campaign(run_dir: Path | None, kind: str, version: int) -> None:
    """Let the campaign of the run directory use that version from now on, if it is one of its models."""
    from nearedge.rundir import RunDir

    if run_dir is None or not RunDir(run_dir).exists:
        return
    from nearedge.champions import use_version

    use_version(RunDir(run_dir), kind, version)


@contextmanager
def _registry(run_dir: Path | None, tracking_uri: str | None) -> "Iterator[ModelRegistry]":
    """The registry that the options name.

    Raises UserError unless exactly one of them does and the store exists, and when the store cannot be used.
    """
    if (run_dir is None) == (tracking_uri is None):
        raise UserError(
            "the registry is not named",
            got="both --dir and --tracking-uri" if run_dir else "neither --dir nor --tracking-uri",
            fix="give one of them",
        )
    uri = tracking_uri or f"{_SQLITE}{(run_dir or Path()).absolute() / 'mlflow.db'}"
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
        raise UserError(
            "there is no model registry here",
            got=uri.removeprefix(_SQLITE),
            fix="name the folder of a campaign that has run (--dir)",
        )
    from sqlalchemy.exc import SQLAlchemyError

    from nearedge_services.registry.mlflow_library import mlflow_module
    from nearedge_services.registry.model_registry import ModelRegistry
    from nearedge_services.registry.reachable import check_answers

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


def _metrics(version: "ModelVersion") -> str:
    """The metric that decides promotion, and two more."""
    from nearedge.summary import HEADLINES

    names = sorted(version.metrics, key=lambda name: (name != HEADLINES.get(version.kind), name))
    return ", ".join(f"{name} {version.metrics[name]:.4g}" for name in names[:3])


def _table(versions: "list[ModelVersion]") -> Table:
    table = Table("model", "version", "champion", "trained (UTC)", "metrics", "run")
    for version in versions:
        table.add_row(
            version.kind,
            str(version.version),
            "yes" if version.is_champion else "",
            f"{version.created_at:%Y-%m-%d %H:%M}",
            _metrics(version),
            version.run_id[:8],
        )
    return table

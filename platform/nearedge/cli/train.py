"""``nearedge train``: one of the three models from labelled structures."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from pydantic import BaseModel


class ModelKind(StrEnum):
    """The three models of a campaign."""

    prior = "prior"
    surrogate = "surrogate"
    potential = "potential"


#: Package of each model; all have ``settings``, ``training`` and a module named after the kind.
PACKAGES = {
    ModelKind.prior: "nearedge_services.diffusion",
    ModelKind.surrogate: "nearedge_services.surrogate",
    ModelKind.potential: "nearedge_services.potential",
}


def train(
    kind: Annotated[ModelKind, typer.Argument(help="Which model.")],
    data: Annotated[
        Path, typer.Argument(help="Labelled structures (.extxyz); info 'group' names the network.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder; the model goes to FOLDER/<kind>.")],
    initial: Annotated[Path | None, typer.Option(help="Start from this model folder's weights.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the groups that is held out.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of split, weights and batches.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a training setting; repeatable."),
    ] = None,
) -> None:
    """Train the prior, the surrogate or the potential, and measure it on groups it has not seen.

    Writes the weights, config.json and metrics.json to FOLDER/<kind>.

    Example: nearedge train surrogate labelled.extxyz -o models --seed 1 --set steps=600
    """
    from nearedge.cli.outputs import check_output_folder
    from nearedge_services.files import replacing
    from nearedge_services.structures.extxyz import read_structures
    from nearedge_services.structures.labelled_by import check_one_oracle

    folder = output / kind
    check_output_folder(folder)
    settings = make_settings(kind, overrides or [])
    frames = read_structures(data)
    if kind is not ModelKind.prior:
        check_one_oracle(frames, data)
    training, unseen = split_by_group(frames, held_out, seed)
    package = PACKAGES[kind]
    train_model = getattr(import_module(f"{package}.training"), f"train_{kind}")
    start = getattr(import_module(f"{package}.{kind}"), kind.capitalize()).load(initial) if initial else None
    with _progress_bar(f"Training the {kind}") as progress:
        model, metrics = train_model(training, unseen, settings, seed, initial=start, progress=progress)
    model.save(folder)
    record = {
        "metrics": metrics,
        "headline": model.HEADLINE,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "structures": {"train": len(training), "held_out": len(unseen)},
    }
    with replacing(folder / "metrics.json") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _print_metrics(kind, metrics, model.HEADLINE, folder)


def make_settings(kind: ModelKind, overrides: Sequence[str]) -> "BaseModel":
    """The settings of one model's training with ``key=value`` overrides.

    Raises UserError for a text without ``=``, an unknown key or a value that does not fit.
    """
    import yaml
    from pydantic import ValidationError

    settings = getattr(import_module(f"{PACKAGES[kind]}.settings"), f"{kind.capitalize()}Settings")
    values = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise UserError("--set needs key=value", got=text, fix="write for example --set steps=500")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError("the value of --set is not readable", got=text, fix="quote it as YAML") from error
    try:
        return settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UserError(
            f"setting {name!r} of the {kind}: {first['msg']}",
            got=first.get("input"),
            fix=f"known settings: {', '.join(settings.model_fields)}",
        ) from error


def split_by_group(
    structures: Sequence["Atoms"], held_out: float, seed: int
) -> tuple[list["Atoms"], list["Atoms"]]:
    """Training and held-out structures; frames of one ``info["group"]`` stay together.

    A frame without a group is one of its own. Raises UserError with fewer than two groups or a share outside
    (0, 1).
    """
    import numpy as np

    if not 0 < held_out < 1:
        raise UserError("the held-out share must be between 0 and 1", got=held_out, fix="try --held-out 0.2")
    names = [str(atoms.info.get("group", f"frame {index}")) for index, atoms in enumerate(structures)]
    groups = sorted(set(names))
    if len(groups) < 2:
        raise UserError(
            "the data hold only one group of structures",
            got=groups,
            fix='give two independent networks or more, told apart by info "group"',
        )
    count = min(max(1, round(held_out * len(groups))), len(groups) - 1)
    chosen = {groups[i] for i in np.random.default_rng(seed).permutation(len(groups))[:count]}
    unseen = [atoms for atoms, name in zip(structures, names, strict=True) if name in chosen]
    return [atoms for atoms, name in zip(structures, names, strict=True) if name not in chosen], unseen


@contextmanager
def _progress_bar(title: str) -> Iterator[Callable[[float, Mapping[str, Any]], None]]:
    """A bar on standard error that follows the fraction done and shows the newest numbers."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0, note="")

        def report(fraction: float, values: Mapping[str, Any]) -> None:
            note = " ".join(f"{key} {_short(value)}" for key, value in values.items())
            bar.update(task, completed=fraction, note=note)

        yield report
        bar.update(task, completed=1.0)


def _print_metrics(kind: ModelKind, metrics: Mapping[str, float], headline: str, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{kind.capitalize()} on held-out structures", title_justify="left")
    table.add_column("Metric")
    table.add_column("Value", justify="right")
    for name, value in metrics.items():
        table.add_row(f"{name} (decides promotion)" if name == headline else name, _short(value))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"Saved to {folder}", soft_wrap=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

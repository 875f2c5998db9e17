"""``nearedge pretrain``: the three models, from nothing or from earlier ones, on data the program makes itself."""

import os
from copy import deepcopy
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nearedge_db.errors import UserError

IDLE = {
    None: ("renews", "anew", "refined"),
    "networks": (
        "renews",
        "small_atoms",
        "first",
        "hot",
        "round",
        "refined",
        "potential",
        "models.potential",
    ),
    "potential": (
        "renews",
        "anew",
        "first",
        "hot",
        "networks",
        "network_quench",
        "network_anneal",
        "generated",
        "models.prior",
        "models.surrogate",
    ),
}
"""Beginnings of the settings without effect, by what is made anew from a start; None: no start."""


class Anew(StrEnum):
    """What a pretraining with a start makes anew."""

    networks = "networks"
    potential = "potential"


def pretrain(
    folder: Annotated[Path, typer.Argument(help="Where frames and models go; continued when it exists.")],
    unit: Annotated[str, typer.Option(help="Formula that every cell repeats, such as C, Si or SiC.")] = "C",
    density: Annotated[str, typer.Option(help="Range of densities in g/cm³, LOW:HIGH.")] = "1.4:3.6",
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side; default: the cores.")] = (
        os.cpu_count() or 1
    ),
    seed: Annotated[int, typer.Option(min=0, help="Decides every network and every training.")] = 0,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Finished pretraining whose potential and networks are the start; default: nothing."
        ),
    ] = None,
    anew: Annotated[
        Anew | None,
        typer.Option(help="What a start makes anew; default: networks, with prior and surrogate."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the pipeline, key=value (key.sub=value).")
    ] = None,
) -> None:
    """Melt-quench networks, label them with the oracle, and train prior, surrogate and potential on them.

    With a start, either its potential is kept, or everything else. Takes hours for the defaults; every finished piece
    is kept, and the same command goes on after an interruption.

    Example: nearedge pretrain pretrained/carbon --unit C --density 1.4:3.6

    Example: nearedge pretrain pretrained/second --start pretrained/carbon

    Example: nearedge pretrain pretrained/third --start pretrained/second --anew potential
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from nearedge_services.pretraining.pipeline import pretrain as run_pipeline

    chosen = read_settings(unit, density, seed, settings or [], _made_anew(start, anew))
    console = Console()
    with Progress(
        TextColumn("{task.description:16s}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        rows: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in rows:
                rows[name] = progress.add_task(name, total=total)
            progress.update(rows[name], completed=done)

        record = run_pipeline(folder, chosen, workers, report, start)
    for line in _summary(record, folder):
        console.print(line, markup=False)


def read_settings(unit: str, density: str, seed: int, pairs: list[str], anew: str | None = None) -> Any:
    """The pipeline's settings from the command line; ``anew`` is what is made anew from a start, None from nothing.

    Raises UserError that names the wrong key.
    """
    from pydantic import ValidationError

    from nearedge.cli.label import parse_settings
    from nearedge_services.pretraining.materials import material_values, potential_values, started_values
    from nearedge_services.pretraining.settings import PretrainingSettings
    from nearedge_services.structures.bond_order import ELEMENTS
    from nearedge_services.structures.composition import parse_composition

    unknown = sorted(set(parse_composition(unit).counts) - set(ELEMENTS))
    if unknown:
        raise UserError(
            "the melt-quench has no potential for an element", got=", ".join(unknown), fix="use C, Si or SiC"
        )
    given = {"unit": unit, "density_g_cm3": _range(density), "seed": seed}
    if anew is None:
        usual = {} if unit == "C" else material_values(unit)
    else:
        usual = {"networks": started_values, "potential": potential_values}[anew](unit)
    values: dict[str, Any] = {**usual, **given}
    chosen = parse_settings(pairs)
    _refuse_idle(chosen, anew)
    standard = PretrainingSettings().model_dump()
    for key in chosen:
        top, _, below = key.partition(".")
        if below and isinstance(standard.get(top), dict) and not isinstance(values.get(top), dict):
            values[top] = deepcopy(standard[top])  # one key changed: the others stay as they were
    for key, value in chosen.items():
        _put(values, key, value)
    try:
        return PretrainingSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"bad setting {key!r}", got=repr(first["input"]), fix=first["msg"]) from error


def _summary(record: dict[str, Any], folder: Path) -> list[str]:
    """How good the models are, and where."""
    lines = [
        f"{kind}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        for kind, metrics in record["metrics"].items()
    ]
    return [*lines, f"models in {folder / 'models'}"]


def _made_anew(start: Path | None, anew: Anew | None) -> str | None:
    """What a start's pretraining makes anew, None without a start. UserError for one without the other."""
    if start is not None:
        return (anew or Anew.networks).value
    if anew is not None:
        raise UserError(
            "without a start everything is made anew", got=f"--anew {anew.value}", fix="give --start, too"
        )
    return None


def _refuse_idle(chosen: dict[str, Any], anew: str | None) -> None:
    idle = [key for key in chosen if key.startswith(IDLE[anew])]
    if idle:
        made = f"the {anew} of a start anew" if anew else "everything from nothing"
        raise UserError(
            "a setting has no effect",
            got=idle[0],
            fix=f"leave it out: this makes {made} (see --start, --anew)",
        )


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 < low < high < 30:
        raise UserError("the density range is not readable", got=repr(text), fix="write LOW:HIGH, 1.4:3.6")
    return low, high


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError("a setting has no sub-keys", got=key, fix="see the settings' names")
    values[last] = value

"""``nearedge generate``: structures from the prior, guided by a spectrum or not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.spectra.target import Target
    from nearedge_services.surrogate.surrogate import Surrogate

DEFAULT_GUIDANCE = 10.0
ATOMS_AT_ONCE = 256
"""Structures are saved whenever about so many atoms are finished."""

CHAMPIONS = Path("models") / "champion"
"""Where a campaign keeps its best models, below its run directory."""


def generate(
    composition: Annotated[str, typer.Option(help="What the cell holds, such as C64 or Si32C32.")],
    density: Annotated[str, typer.Option(help="g/cm³; FROM:TO spreads the structures over a range.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write (.extxyz).")],
    target: Annotated[
        Path | None, typer.Option(help="Spectrum to aim at, on the oracle's energy axis.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of structures.")] = 8,
    guidance: Annotated[
        float | None, typer.Option(help=f"Strength of the guidance; {DEFAULT_GUIDANCE:g} with a target.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same structures.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Evaluations of the denoiser.")] = 100,
    absorber: Annotated[str | None, typer.Option(help="Element of the target's edge.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder with prior/, and surrogate/ when there is a target.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Run directory of a campaign: use its best models.")
    ] = None,
) -> None:
    """Generate structures, save each as it comes, and print its quality.

    Example: nearedge generate --target T.csv --composition C64 --density 2.6 --count 8 --guidance 10 --seed 0
    -o OUT.extxyz --dir runs/quickstart
    """
    from nearedge.cli.outputs import check_output
    from nearedge_services.diffusion.prior import Prior
    from nearedge_services.diffusion.starts import empty_cells
    from nearedge_services.structures.composition import parse_composition

    check_output(output)
    if guidance is not None:
        check_guidance(guidance, target)
    models = model_folder(model, directory)
    cells = empty_cells(parse_composition(composition), parse_densities(density, count))
    prior = Prior.load(models / "prior")
    prior.batch(cells[:1])  # unknown elements are told before anything long starts
    aim = None if target is None else _read_aim(target, models / "surrogate", absorber, cells[0])
    scale = 0.0 if aim is None else DEFAULT_GUIDANCE if guidance is None else guidance
    job = _Job(prior, cells, structure_seeds(seed, count), steps, aim, scale)
    raise typer.Exit(_run(job, output))


def check_guidance(guidance: float, target: Path | None) -> None:
    """Raise UserError for a strength without a target, a negative one, NaN or infinity."""
    if target is None:
        raise UserError(
            "guidance needs a spectrum to aim at", got=f"--guidance {guidance:g}", fix="add --target T.csv"
        )
    if not 0 <= guidance < math.inf:
        raise UserError(
            "the guidance must be a number of zero or more",
            got=f"--guidance {guidance:g}",
            fix=f"try {DEFAULT_GUIDANCE:g}",
        )


@dataclass(frozen=True)
class _Aim:
    """A target and the surrogate that judges the way to it."""

    surrogate: "Surrogate"
    target: "Target"


@dataclass(frozen=True)
class _Job:
    """Everything one call generates."""

    prior: "Prior"
    cells: "Sequence[Atoms]"
    seeds: Sequence[int]
    steps: int
    aim: _Aim | None
    scale: float


def model_folder(model: Path | None, directory: Path | None) -> Path:
    """The folder with the models; UserError when none, or two, are named or it has no prior."""
    if model is not None and directory is not None:
        raise UserError(
            "--model and --dir both name models", got=f"{model} and {directory}", fix="give one of them"
        )
    if model is None and directory is None:
        raise UserError(
            "no trained model is named, and none comes with the program",
            fix="give --dir RUN_DIR of a campaign, or --model FOLDER with a trained prior in FOLDER/prior",
        )
    folder = model if model is not None else Path(str(directory)) / CHAMPIONS
    if not (folder / "prior").is_dir():
        fix = (
            "name a folder that has prior/"
            if model is not None
            else "let the campaign train its models first"
        )
        raise UserError("there is no prior here", got=folder, fix=fix)
    return folder


def parse_densities(text: str, count: int) -> list[float]:
    """``"2.6"`` or the range ``"1.6:3.4"`` in g/cm³ as one density per structure."""
    fix = "give g/cm³ as 2.6, or as a range 1.6:3.4"
    try:
        ends = [float(part) for part in text.split(":")]
    except ValueError as error:
        raise UserError("the density is not readable", got=repr(text), fix=fix) from error
    if len(ends) > 2 or not all(0 < end < 30 for end in ends):
        raise UserError("the density is out of range", got=repr(text), fix=fix)
    first, last = ends[0], ends[-1]
    if count == 1:
        return [(first + last) / 2]
    return [first + (last - first) * k / (count - 1) for k in range(count)]


def structure_seeds(seed: int, count: int) -> list[int]:
    """Independent seeds; the first ones do not depend on how many there are."""
    import numpy as np

    return [int(np.random.SeedSequence([seed, k]).generate_state(1)[0]) for k in range(count)]


def _read_aim(path: Path, folder: Path, absorber: str | None, cell: "Atoms") -> _Aim:
    from nearedge_services.spectra.reading import read_spectrum
    from nearedge_services.spectra.target import Target
    from nearedge_services.surrogate.surrogate import Surrogate

    spectrum = read_spectrum(path)
    surrogate = Surrogate.load(folder)
    present = [symbol for symbol in surrogate.absorbers if symbol in cell.get_chemical_symbols()]
    element = absorber or (present[0] if len(present) == 1 else None)
    if element is None:
        raise UserError(
            "it is not clear whose edge the target is",
            got=", ".join(present) or "no element that the surrogate has spectra of",
            fix="name it with --absorber",
        )
    if element not in present:
        raise UserError(
            "the absorber is not in the cell, or the surrogate has no spectra of it",
            got=element,
            fix=f"use one of {', '.join(present) or 'its elements: ' + ', '.join(surrogate.absorbers)}",
        )
    surrogate.batch([cell])
    return _Aim(surrogate, Target.from_spectrum(spectrum, surrogate.grid, element))


def _run(job: _Job, output: Path) -> int:
    from rich.console import Console

    from nearedge_services.structures.extxyz import write_structures

    console, stderr = Console(highlight=False, soft_wrap=True), Console(stderr=True, soft_wrap=True)
    console.print(_HEADER if job.aim is None else f"{_HEADER}  predicted distance (10⁻³/eV)")
    written, failed = 0, 0
    for structures, failures in _portions(job):
        for index, atoms in structures.items():
            row = _describe(index, atoms, job)
            write_structures(output, [atoms], append=written > 0)
            written += 1
            console.print(row)
        for index, reason in failures.items():
            failed += 1
            stderr.print(f"structure {index} failed: {reason}")
    console.print(f"{written} structures in {output}" if written else "no structure was finished")
    return 1 if failed else 0


def _portions(job: _Job) -> "Iterator[tuple[dict[int, Atoms], dict[int, str]]]":
    """Finished structures and reasons of failure, a few at a time, by index."""
    from nearedge_services.diffusion.guidance import SpectrumGuidance
    from nearedge_services.diffusion.sampler import SamplingError, sample
    from nearedge_services.diffusion.settings import SamplerSettings

    settings = SamplerSettings(steps=job.steps)
    guide = SpectrumGuidance(job.aim.surrogate, job.aim.target, job.scale) if job.aim and job.scale else None
    portion = max(ATOMS_AT_ONCE // len(job.cells[0]), 1)
    for first in range(0, len(job.cells), portion):
        chosen = slice(first, first + portion)
        completed, failures = {}, {}
        try:
            completed = dict(
                enumerate(sample(job.prior, job.cells[chosen], settings, job.seeds[chosen], guide))
            )
        except SamplingError as error:
            completed, failures = error.completed, error.failures
        yield (
            {first + k: atoms for k, atoms in sorted(completed.items())},
            {first + k: reason for k, reason in failures.items()},
        )


_HEADER = "   #  density  shortest (Å)  2-fold  3-fold  4-fold"


def _describe(index: int, atoms: "Atoms", job: _Job) -> str:
    """Note in `atoms.info` where the structure comes from, and its quality as a line of the table."""
    from nearedge_services.structures.composition import density_g_cm3
    from nearedge_services.structures.coordination import (
        coordination_fractions,
        shortest_contact,
    )

    shares = coordination_fractions(atoms)
    notes: dict[str, Any] = {
        "seed": job.seeds[index],
        "guidance_scale": job.scale,
        "sampler_steps": job.steps,
    }
    row = f"{index:4d}  {density_g_cm3(atoms):7.2f}  {shortest_contact(atoms):12.2f}"
    row += "".join(f"  {100 * shares.get(number, 0.0):5.0f}%" for number in (2, 3, 4))
    if job.aim is not None:
        prediction = job.aim.surrogate.predict([atoms], job.aim.target)[0]
        notes |= {
            "predicted_distance": prediction.distance,
            "predicted_distance_std": prediction.distance_std,
        }
        row += f"  {1e3 * prediction.distance:.1f} ± {1e3 * prediction.distance_std:.1f}"
    atoms.info.update(notes)
    return row

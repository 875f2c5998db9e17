"""``nearedge generate``: structures from the prior, guided by a spectrum or not, refined or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

    from nearedge.generation import Failure, Job

CHAMPIONS = Path("models") / "champion"
"""Where a campaign keeps its best models, below its run directory."""

DEFAULT_COUNT = 8

ENERGY_ERROR = "predicted_energy_std_per_atom_ev"

Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write (.extxyz).")]
Content = Annotated[
    str | None, typer.Option(help="What the cell holds, C64 or SiC; default: the prior's element.")
]
Number = Annotated[int | None, typer.Option(help="Atoms in a cell: the composition's unit is repeated.")]
Density = Annotated[
    str | None, typer.Option(help="g/cm³: 2.6, a range 1.6:3.4 to spread over, or a list 1.6,2.6.")
]
Cell = Annotated[str | None, typer.Option(help="Three lengths or nine numbers in Å, a,b,c.")]
Start = Annotated[
    Path | None, typer.Option(help="Structure of which some atoms stay and the others are made anew.")
]
Fixed = Annotated[
    str | None, typer.Option(help="Atoms of the start that stay, 0:32,40; default: as the file says.")
]
Aimed = Annotated[Path | None, typer.Option(help="Spectrum to aim at, on the oracle's energy axis.")]
Absorber = Annotated[str | None, typer.Option(help="Element of the target's edge.")]
Strength = Annotated[
    float | None, typer.Option(help="Strength; 10 (classifier-free: 2) with a target, 0 only judges.")
]
Kind = Annotated[str, typer.Option(help="surrogate, noise-aware, classifier-free or both.")]
Count = Annotated[
    int | None, typer.Option(min=1, help=f"Structures; {DEFAULT_COUNT}, or as many as densities listed.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same structures.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Evaluations of the denoiser; default 140.")]
Refine = Annotated[
    bool, typer.Option("--refine/--no-refine", help="Relax, anneal and relax what was generated.")
]
Pairs = Annotated[list[str] | None, typer.Option("--set", help="sampler.KEY=VALUE or refinement.KEY=VALUE.")]
Models = Annotated[
    Path | None,
    typer.Option(help="Folder with prior/, surrogate/ and potential/; default: the shipped ones."),
]
RunDirectory = Annotated[
    Path | None, typer.Option("--dir", help="Run directory of a campaign: use its best models.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is in OUTPUT.")]


def generate(
    output: Output,
    composition: Content = None,
    atoms: Number = None,
    density: Density = None,
    cell: Cell = None,
    start: Start = None,
    fix: Fixed = None,
    target: Aimed = None,
    absorber: Absorber = None,
    guidance: Strength = None,
    guidance_kind: Kind = "surrogate",
    count: Count = None,
    seed: Seed = 0,
    steps: Steps = None,
    refine: Refine = False,
    settings: Pairs = None,
    model: Models = None,
    directory: RunDirectory = None,
    overwrite: Overwrite = False,
) -> None:
    """Generate structures, save each as it comes, and print its quality.

    What OUTPUT has already, made with the same settings, is skipped: the same call goes on after an interruption.
    Structures that fail are reported and the exit status is then 1.

    Example: nearedge generate --target T.csv --composition C64 --density 2.6 --count 8 --seed 0 -o OUT.extxyz
    """
    from nearedge.cli.outputs import check_output
    from nearedge.generation import prepare
    from nearedge.generation.saving import finished_already

    check_output(output, inputs=[target, start])
    chosen = parse_sections(settings or [], refine)
    densities = None if density is None else parse_density(density)
    job = prepare(
        composition,
        atoms=atoms,
        density=densities,
        cell=None if cell is None else parse_cell(cell),
        start=start,
        fixed=None if fix is None else parse_indices(fix),
        count=count if count is not None or isinstance(densities, list) else DEFAULT_COUNT,
        seed=seed,
        target=target,
        absorber=absorber,
        guidance=guidance,
        guidance_kind=guidance_kind,
        steps=steps,
        sampler=chosen["sampler"],
        refine=chosen["refinement"] if refine else False,
        models=model_folder(model, directory),
    )
    done = set() if overwrite else finished_already(output, job)
    raise typer.Exit(_run(job, output, done))


def model_folder(model: Path | None, directory: Path | None) -> Path | None:
    """The folder with the models, None for the shipped ones; UserError when two are named or it has no prior."""
    if model is not None and directory is not None:
        raise UserError(
            "--model and --dir both name models", got=f"{model} and {directory}", fix="give one of them"
        )
    if directory is None:
        return model
    folder = directory / CHAMPIONS
    if not (folder / "prior").is_dir():
        raise UserError("there is no prior here", got=folder, fix="let the campaign train its models first")
    return folder


def parse_density(text: str) -> float | tuple[float, float] | list[float]:
    """``"2.6"``, the range ``"1.6:3.4"`` or the list ``"1.6,2.6"`` in g/cm³. Raises UserError."""
    separator = ":" if ":" in text else ","
    values = _numbers(text, separator, "the density is not readable", "give g/cm³ as 2.6, 1.6:3.4 or 1.6,2.6")
    if separator == ":":
        if len(values) != 2:
            raise UserError("the density is out of range", got=repr(text), fix="give a range as 1.6:3.4")
        return (values[0], values[1])
    return values[0] if len(values) == 1 else values


def parse_cell(text: str) -> list[Any]:
    """``"a,b,c"`` or nine numbers, row by row, in Å. Raises UserError."""
    fix = "give three lengths a,b,c or nine numbers, Å"
    values = _numbers(text, ",", "the cell is not readable", fix)
    if len(values) not in {3, 9}:
        raise UserError("the cell is not readable", got=repr(text), fix=fix)
    return values if len(values) == 3 else [values[0:3], values[3:6], values[6:9]]


def parse_indices(text: str) -> list[int]:
    """``"0:32,40"`` as indices, the end of a range left out. Raises UserError."""
    indices: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            chosen = range(int(first), int(last)) if colon else [int(first)]
            indices += chosen
            if not chosen:
                raise ValueError(part)
    except ValueError as error:
        raise UserError(
            "the fixed atoms are not readable", got=repr(text), fix="give indices and ranges, as in 0:32,40"
        ) from error
    return indices


def parse_sections(pairs: Sequence[str], refine: bool) -> dict[str, dict[str, Any]]:
    """``["sampler.churn=0.3"]`` as settings by section; dots go deeper. Raises UserError."""
    from nearedge.cli.label import parse_settings

    sections: dict[str, dict[str, Any]] = {"sampler": {}, "refinement": {}}
    for path, value in parse_settings(pairs).items():
        first, *others = path.split(".")
        if first not in sections or not others:
            raise UserError(
                "there is no such setting", got=path, fix="write sampler.KEY=VALUE or refinement.KEY=VALUE"
            )
        if first == "refinement" and not refine:
            raise UserError("a setting of the refinement has no effect", got=path, fix="add --refine")
        place = sections[first]
        for key in others[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise UserError(
                    "a setting is given as a whole and in parts", got=path, fix="give one of them"
                )
        place[others[-1]] = value
    return sections


def _numbers(text: str, separator: str, what: str, fix: str) -> list[float]:
    try:
        return [float(part) for part in text.split(separator)]
    except ValueError as error:
        raise UserError(what, got=repr(text), fix=fix) from error


def _run(job: "Job", output: Path, done: set[int]) -> int:
    from rich.console import Console

    from nearedge.generation import Failure
    from nearedge_services.structures.extxyz import write_structures

    console, stderr = Console(highlight=False, soft_wrap=True), Console(stderr=True, soft_wrap=True)
    if done:
        console.print(f"{len(done)} structures are in {output} already", markup=False)
    made: list[Atoms] = []
    failures = 0
    with console.status("generating …"):
        for outcome in job.run(skip=done):
            if isinstance(outcome, Failure):
                failures += 1
                stderr.print(_complaint(outcome), markup=False)
                continue
            write_structures(output, [outcome.atoms], append=bool(made or done))
            if not made:
                console.print(_header(job))
            made.append(outcome.atoms)
            console.print(_row(outcome.index, outcome.atoms))
    if any(ENERGY_ERROR in atoms.info for atoms in made):
        console.print(_energy_error(made))
    written = len(done) + len(made)
    console.print(
        f"{written} structures in {output}" if written else "no structure was finished", markup=False
    )
    return 1 if failures else 0


def _complaint(failure: "Failure") -> str:
    return f"structure {failure.index} (seed {failure.seed}) failed: {failure.reason}"


def _header(job: "Job") -> str:
    header = "   #  density  shortest (Å)  2-fold  3-fold  4-fold"
    if job.models.potential is not None:
        header += "  energy (eV/atom)"
    if job.refinement is not None:
        header += "  moved (Å)"
    return header + ("  predicted distance (10⁻³/eV)" if job.aim is not None else "")


def _energy_error(structures: "Sequence[Atoms]") -> str:
    """What is known of the errors of their energies: how large they were elsewhere, hardly which is larger."""
    from statistics import median

    typical = median(atoms.info[ENERGY_ERROR] for atoms in structures if ENERGY_ERROR in atoms.info)
    return (
        f"energies: ± {typical:.3f} eV/atom, the potential's typical error on held-out structures; "
        "it does not say which of these is less certain"
    )


def _row(index: int, atoms: "Atoms") -> str:
    """The quality of a structure as a line of the table."""
    note = atoms.info
    row = f"{index:4d}  {note['density_g_cm3']:7.2f}  {note.get('shortest_contact_a', float('inf')):12.2f}"
    row += "".join(f"  {100 * note[f'cn{number}_fraction']:5.0f}%" for number in (2, 3, 4))
    if "predicted_energy_per_atom_ev" in note:
        row += f"  {note['predicted_energy_per_atom_ev']:16.3f}"
    if "refined_rms_displacement_a" in note:
        row += f"  {note['refined_rms_displacement_a']:9.2f}"
    if "predicted_distance" in note:
        row += f"  {1e3 * note['predicted_distance']:.1f} ± {1e3 * note['predicted_distance_std']:.1f}"
    return row

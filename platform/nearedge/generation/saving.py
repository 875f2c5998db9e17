"""The output file of a generation: going on after an interruption."""

from dataclasses import dataclass
from pathlib import Path

from nearedge.generation.job import Job
from nearedge_db.errors import UserError


@dataclass(frozen=True)
class Contents:
    """What an output file holds: the recipe of each complete frame, and where the last of them ends."""

    recipes: list[str]
    size: int
    """Bytes of the complete frames."""


def finished_already(output: Path, job: Job) -> set[int]:
    """Indices of the job's structures that OUTPUT has; what an interruption left of a frame is cut off.

    Raises UserError, and leaves the file as it is, when it has anything that the job would not make.
    """
    if not output.exists() or output.stat().st_size == 0:
        return set()
    contents = read_contents(output)
    indices = {recipe: index for index, recipe in enumerate(job.recipes)}
    foreign = [recipe for recipe in contents.recipes if recipe not in indices]
    if foreign:
        raise UserError(
            "the output has structures that this call, with these settings and weights, would not make",
            got=f"{len(foreign)} of {len(contents.recipes)} in {output}",
            fix="name another file, or replace it with --overwrite",
        )
    if contents.size < output.stat().st_size:
        with output.open("r+b") as stream:
            stream.truncate(contents.size)
    return {indices[recipe] for recipe in contents.recipes}


def read_contents(path: Path) -> Contents:
    """The complete frames of an extended XYZ file. UserError when it is something else, or cut in the first."""
    from ase.io.extxyz import key_val_str_to_dict

    lines = path.read_bytes().splitlines(keepends=True)
    recipes: list[str] = []
    size = start = 0
    while start < len(lines) and lines[start].strip().isdigit():
        end = start + 2 + int(lines[start])
        if end > len(lines) or not lines[end - 1].endswith(b"\n"):
            break
        notes = key_val_str_to_dict(lines[start + 1].decode(errors="replace"))
        recipes.append(str(notes.get("recipe")))
        size += sum(map(len, lines[start:end]))
        start = end
    if not recipes:
        raise UserError(
            "the output has something else in it, or half a structure",
            got=path,
            fix="name another file, or replace it with --overwrite",
        )
    return Contents(recipes, size)

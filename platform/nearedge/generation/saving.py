"""The output file of a generation: going on after an interruption."""

from pathlib import Path

from nearedge.generation.job import Job
from nearedge_db.errors import UserError


def finished_already(output: Path, job: Job) -> set[int]:
    """Indices of the job's structures that OUTPUT has; what an interruption left of a frame is cut off.

    Raises UserError, and leaves the file as it is, when it has anything that the job would not make.
    """
    from nearedge_services.structures.frames import complete_frames, cut_off_rest

    frames = complete_frames(output, fix="name another file, or replace it with --overwrite")
    recipes = [_recipe(frame.comment) for frame in frames.complete]
    indices = {recipe: index for index, recipe in enumerate(job.recipes)}
    foreign = [recipe for recipe in recipes if recipe not in indices]
    if foreign:
        raise UserError(
            "the output has structures that this call, with these settings and weights, would not make",
            got=f"{len(foreign)} of {len(recipes)} in {output}",
            fix="name another file, or replace it with --overwrite",
        )
    cut_off_rest(output, frames)
    return {indices[recipe] for recipe in recipes}


def _recipe(comment: str) -> str:
    """The recipe that a frame's comment names; empty for a comment of something else."""
    from ase.io.extxyz import key_val_str_to_dict

    from nearedge_services.structures.malformed import PARSER_ERRORS

    try:
        return str(key_val_str_to_dict(comment).get("recipe", ""))
    except PARSER_ERRORS:
        return ""

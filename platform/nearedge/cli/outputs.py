"""Paths that a command was given: checked first, so that no calculation ends at a file it cannot write."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nearedge_db.errors import UserError

if TYPE_CHECKING:
    from nearedge.rundir import RunDir

FIGURES = (".png", ".pdf", ".svg")


def check_output(
    path: Path, suffixes: Sequence[str] | None = None, inputs: Sequence[Path | None] = ()
) -> None:
    """Refuse a file that cannot be written, is among ``inputs``, or has none of the ``suffixes`` (lower case).

    Creates nothing. Raises UserError when the folder does not exist or is no folder, when the path is a
    directory, when permissions are missing, for another suffix, or for a file that the command reads.
    """
    if suffixes is not None and path.suffix.lower() not in suffixes:
        raise UserError("the output has an unknown format", got=path.name, fix=f"name it {_any_of(suffixes)}")
    if path.is_dir():
        raise UserError("the output is a directory", got=path, fix="name a file")
    if not path.parent.is_dir():
        raise UserError("the folder of the output does not exist", got=path.parent, fix="create it first")
    if path.exists() and any(one is not None and one.exists() and one.samefile(path) for one in inputs):
        raise UserError("the output is the input, which would be lost", got=path, fix="name another file")
    if not _can_be_written(path):
        raise UserError(
            "the output cannot be written", got=path, fix="choose another or mend its permissions"
        )


def _can_be_written(path: Path) -> bool:
    """Whether the file, or another in its place, can be written; a pipe or device has no place."""
    if path.exists() and not os.access(path, os.W_OK):
        return False
    return (path.exists() and not path.is_file()) or os.access(path.resolve().parent, os.W_OK)


def check_output_folder(path: Path) -> None:
    """Refuse a folder that cannot be made or written in; it need not exist yet.

    Creates nothing. Raises UserError when the path or a part of it is a file, or permissions are missing.
    """
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError("the output folder is a file or inside one", got=nearest, fix="name a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            "the output folder cannot be written", got=path, fix="choose another or mend its permissions"
        )


def existing_run(campaign: str, directory: Path | None) -> "RunDir":
    """The run directory given, or ``runs/CAMPAIGN``. Raises UserError when it is no directory."""
    from nearedge.rundir import RunDir

    run_dir = RunDir.of(campaign, directory)
    if not run_dir.path.is_dir():
        what = "the run directory is a file" if run_dir.path.exists() else "there is no campaign here"
        raise UserError(what, got=run_dir.path, fix="give the run directory of a campaign with --dir")
    return run_dir


def _any_of(suffixes: Sequence[str]) -> str:
    *others, last = suffixes
    return f"{', '.join(others)} or {last}" if others else last

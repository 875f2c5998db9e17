"""Structures on disk: extended XYZ with REF_energy, REF_forces and per-atom XANES."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from nearedge_db.errors import UserError
from nearedge_services.files import replacing
from nearedge_services.structures.frames import find_frames
from nearedge_services.structures.malformed import PARSER_ERRORS, diagnose, reason_of

#: Key of ``info`` with what else an oracle says of its label (stress, Fermi level, edges), as a JSON text.
DETAILS = "oracle_details"


def read_structures(path: str | Path, size: int | None = None) -> list[Atoms]:
    """Read every frame of an extended XYZ file, or of its first ``size`` bytes; labels stay in ``info`` and ``arrays``.

    Raises UserError when the file is missing, holds no frame, is malformed, has NaN or infinite numbers, or
    labels of the wrong shape; the message names the frame.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "the structure file does not exist", got=path, fix="give the path of an extended XYZ file"
        )
    try:
        content = path.read_bytes()[:size]
    except OSError as error:
        raise UserError(
            "cannot read the structure file", got=f"{path} ({error.strerror})", fix="check its permissions"
        ) from None
    frames = _parse(content, path)
    for number, atoms in enumerate(frames):
        _restore_types(atoms)
        _check(atoms, f"frame {number} of {path}")
    return frames


def _parse(content: bytes, path: Path) -> list[Atoms]:
    """The frames as ASE reads them. Raises UserError where there is none, or one is malformed."""
    try:
        frames = read(io.StringIO(content.decode(), newline=None), index=":", format="extxyz")
    except PARSER_ERRORS as error:
        raise _malformed(path, diagnose(content) or reason_of(error)) from error
    if not frames:
        raise UserError(
            "the structure file has no frame", got=path, fix="give a file with at least one structure"
        )
    found = find_frames(content)
    if len(found.complete) == len(frames) and found.fault is not None:  # ASE ends at an empty line
        raise _malformed(path, found.fault)
    return frames


def _malformed(path: Path, reason: str) -> UserError:
    return UserError(
        "the file is not readable extended XYZ",
        got=f"{path}, {reason}",
        fix="mend it, or make it again where it was cut off",
    )


def write_structures(path: str | Path, atoms_list: Sequence[Atoms], append: bool = False) -> None:
    """Write structures with all their arrays and ``info``; results of an attached calculator are not written.

    A file that is not appended to is there whole or not at all.

    Raises UserError, before anything is written, when a number is NaN or infinite or a label has the wrong
    shape; and when the file cannot be written.
    """
    for number, atoms in enumerate(atoms_list):
        _check(atoms, f"structure {number} for {path}")
    if not atoms_list and not append:
        raise UserError("there is no structure to write", got=path, fix="write at least one")
    if atoms_list:
        path = Path(path)
        try:
            if append and path.exists() and path.stat().st_size > 0:
                _write(path, atoms_list, append=True)
            else:
                with replacing(path) as partial:
                    _write(partial, atoms_list, append=False)
        except OSError as error:
            raise UserError(
                "cannot write the structures", got=f"{path} ({error.strerror})", fix="choose another file"
            ) from None


def _write(path: Path, atoms_list: Sequence[Atoms], append: bool) -> None:
    frames = [_escaped(atoms) for atoms in atoms_list]
    write(path, frames, format="extxyz", append=append, write_results=False)


def _escaped(atoms: Atoms) -> Atoms:
    """The same, with backslashes of the details doubled: ASE escapes quotes only, and takes both away again."""
    details = atoms.info.get(DETAILS)
    if not isinstance(details, str) or "\\" not in details:
        return atoms
    copy = atoms.copy()
    copy.info[DETAILS] = details.replace("\\", "\\\\")
    return copy


def labelled(atoms: Atoms) -> bool:
    """Whether the structure has energy, forces and spectra in the labelled convention and its shapes."""
    complete = {"REF_energy", "xanes_energies"} <= atoms.info.keys() and {
        "REF_forces",
        "xanes",
    } <= atoms.arrays.keys()
    return complete and _label_fault(atoms) is None


def _restore_types(atoms: Atoms) -> None:
    """Undo what the format cannot express: a group that looks like a number, a grid like a matrix."""
    if "group" in atoms.info:
        atoms.info["group"] = str(atoms.info["group"])
    if "xanes_energies" in atoms.info:
        atoms.info["xanes_energies"] = np.ravel(atoms.info["xanes_energies"]).astype(float)
    if "REF_energy" in atoms.info and isinstance(atoms.info["REF_energy"], int | np.integer):
        atoms.info["REF_energy"] = float(atoms.info["REF_energy"])
    if "xanes" in atoms.arrays and atoms.arrays["xanes"].ndim == 1:
        atoms.arrays["xanes"] = atoms.arrays["xanes"][:, None]


def _check(atoms: Atoms, where: str) -> None:
    """Raise UserError for an empty structure, numbers that are not finite, or labels of the wrong shape."""
    if len(atoms) == 0:
        raise UserError("a structure has no atoms", got=where, fix="remove it")
    values = {"cell": atoms.cell.array, **atoms.arrays, **atoms.info}
    for name, value in values.items():
        array = np.asarray(value) if isinstance(value, float | np.floating | np.ndarray) else None
        if array is not None and array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise UserError(
                f"{name} has NaN or infinite numbers", got=where, fix="remove or recompute that structure"
            )
    fault = _label_fault(atoms)
    if fault is not None:
        raise UserError(
            fault, got=where, fix="see the labelled convention: REF_energy, REF_forces, xanes, xanes_energies"
        )


def _label_fault(atoms: Atoms) -> str | None:
    """What is wrong with the labels that are there, or None."""
    energy, forces = atoms.info.get("REF_energy"), atoms.arrays.get("REF_forces")
    xanes, energies = atoms.arrays.get("xanes"), atoms.info.get("xanes_energies")
    if energy is not None and not isinstance(energy, float | np.floating):
        return "REF_energy is not a number"
    if forces is not None and forces.shape != (len(atoms), 3):
        return f"REF_forces has the shape {forces.shape} instead of {(len(atoms), 3)}"
    if xanes is not None and energies is None:
        return "xanes has no xanes_energies beside it"
    if xanes is not None and xanes.shape != (len(atoms), len(np.ravel(energies))):
        return f"xanes has the shape {xanes.shape} for {len(np.ravel(energies))} xanes_energies"
    return None

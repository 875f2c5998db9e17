"""Structures on disk: extended XYZ with REF_energy, REF_forces and per-atom XANES."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.extxyz import XYZError

from nearedge_db.errors import UserError


def read_structures(path: str | Path) -> list[Atoms]:
    """Read every frame of an extended XYZ file; labels stay in ``info`` and ``arrays``.

    Raises UserError when the file is missing, holds no frame, is malformed, has NaN or infinite numbers, or
    labels of the wrong shape; the message names the frame.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "the structure file does not exist", got=path, fix="give the path of an extended XYZ file"
        )
    try:
        frames = read(path, index=":", format="extxyz")
    except OSError as error:
        raise UserError(
            "cannot read the structure file", got=f"{path} ({error.strerror})", fix="check its permissions"
        ) from None
    # ASE lets whatever its parser trips over escape.
    except (XYZError, ValueError, KeyError, IndexError, AssertionError, StopIteration, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(
            "the file is not readable extended XYZ", got=f"{path} ({reason})", fix="check it"
        ) from error
    if not frames:
        raise UserError(
            "the structure file has no frame", got=path, fix="give a file with at least one structure"
        )
    for number, atoms in enumerate(frames):
        _restore_types(atoms)
        _check(atoms, f"frame {number} of {path}")
    return frames


def write_structures(path: str | Path, atoms_list: Sequence[Atoms], append: bool = False) -> None:
    """Write structures with all their arrays and ``info``; results of an attached calculator are not written.

    Raises UserError, before anything is written, when a number is NaN or infinite or a label has the wrong
    shape; and when the file cannot be written.
    """
    for number, atoms in enumerate(atoms_list):
        _check(atoms, f"structure {number} for {path}")
    if not atoms_list and not append:
        raise UserError("there is no structure to write", got=path, fix="write at least one")
    if atoms_list:
        try:
            write(path, list(atoms_list), format="extxyz", append=append, write_results=False)
        except OSError as error:
            raise UserError(
                "cannot write the structures", got=f"{path} ({error.strerror})", fix="choose another file"
            ) from None


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

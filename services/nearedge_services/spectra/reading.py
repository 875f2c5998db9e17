"""Spectrum files: columns, CSV, XDI, Athena; every choice of column goes into the history."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearedge_db.errors import UserError
from nearedge_services.files import replacing
from nearedge_services.spectra.spectrum import Spectrum

LEAST_POINTS = 5

_ENERGY = re.compile(r"(^|[^a-z])(energy|energies|photon|pe|ev|kev|e|x)([^a-z]|$)|^energy|^hv$")
_INTENSITY = (  # best first: normalised before raw, and raw before anything else
    re.compile(r"^(norm|normalized|normalised|nor|mu_norm|norm_mu)$"),
    re.compile(r"norm"),
    re.compile(r"^(xmu|mu|mutrans|mufluor|mue|mu\(e\)|xmu\(e\)|absorption|absorbance|intensity|int|i|y)$"),
    re.compile(r"mu|abs|intens|signal|yield|tey|tfy|pey"),
)
_NOT_INTENSITY = re.compile(r"bkg|background|stddev|error|^err|pre|post|^der|nbkg|^i0|angle|time")
_XDI_COLUMN = re.compile(r"column\.(\d+)\s*:\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    rows: np.ndarray
    """Numbers, shape (P, columns)."""
    lines: tuple[int, ...]
    """Line of the file each row came from, counted from one."""
    labels: tuple[str, ...] | None
    """Lower-case column labels, when the file has as many as columns."""


def read_spectrum(path: str | Path) -> Spectrum:
    """Read a spectrum from text: energy in eV (keV where the header says so) and an intensity.

    Columns may be separated by blanks, tabs, commas or semicolons (then a comma may be the decimal sign),
    with or without a header; ``#`` starts a comment, in which XDI (``Column.1: energy eV``) and Athena
    (``.xmu``, ``.nor``: the last comment line) name their columns. Without names the first column is the
    energy and the second the intensity.

    Raises UserError for a missing or unreadable file, fewer than two columns or five points, a row that is
    not numeric or not finite, and energies that descend or repeat; the message names the line.
    """
    path = Path(path)
    table = _parse(_read_text(path), path)
    energy, intensity, notes = _choose_columns(table, path)
    energies_ev = table.rows[:, energy]
    if table.labels is not None and re.search(r"(^|[^a-z])kev([^a-z]|$)", table.labels[energy]):
        energies_ev = energies_ev * 1000.0
        notes += ("energies converted from keV to eV",)
    values = table.rows[:, intensity]
    _check_rows(energies_ev, values, table.lines, path)
    return Spectrum(energies_ev, values, (f"read {path.name}", *notes))


def write_spectrum(path: str | Path, spectrum: Spectrum) -> None:
    """Write ``energy_eV,intensity`` as CSV with enough digits to read back the same numbers.

    Raises UserError when the folder does not exist or the file cannot be written.
    """
    rows = zip(spectrum.energies_ev.tolist(), spectrum.intensity.tolist(), strict=True)
    text = "energy_eV,intensity\n" + "".join(f"{energy!r},{value!r}\n" for energy, value in rows)
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError("the folder to write to does not exist", got=path.parent, fix="create it first")
    try:
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            "cannot write the spectrum", got=f"{path} ({error.strerror})", fix="choose another file"
        ) from None


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise UserError("the spectrum file does not exist", got=path, fix="give the path of a text file")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            "cannot read the spectrum file", got=f"{path} ({error.strerror})", fix="check its permissions"
        ) from None
    if b"\0" in raw:
        raise UserError("the spectrum file is not plain text", got=path, fix="export it as CSV or columns")
    return raw.decode(
        "utf-8-sig", errors="replace"
    )  # instruments write µ and ° in any encoding, in headers only


def _parse(text: str, path: Path) -> _Table:
    """Numbers and labels of the file."""
    rows: list[list[float]] = []
    lines: list[int] = []
    header: list[str] = []
    xdi: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped.strip(",;"):
            continue
        if stripped[0] in "#%":
            comment = stripped.lstrip("#% \t")
            named = _XDI_COLUMN.match(comment)
            if named:
                xdi[int(named[1])] = named[2].strip().lower()
            elif comment.strip("-= ") and not rows:
                header = _split(comment)
            continue
        values = _numbers(stripped)
        if values is None and not rows:
            header = _split(stripped)
        elif values is None or (rows and len(values) != len(rows[0])):
            raise UserError(
                f"line {number} of the spectrum is not like the rows before it",
                got=f"{stripped[:60]!r} in {path}",
                fix="keep one table of numbers in the file",
            )
        else:
            rows.append(values)
            lines.append(number)
    if len(rows) < LEAST_POINTS:
        raise UserError(
            f"the spectrum has fewer than {LEAST_POINTS} points",
            got=f"{len(rows)} rows of numbers in {path}",
            fix="give two columns: energy in eV and intensity",
        )
    table = np.array(rows)
    if table.shape[1] < 2:
        raise UserError(
            "the spectrum has one column only", got=path, fix="give two columns: energy in eV and intensity"
        )
    return _Table(table, tuple(lines), _labels(header, xdi, table.shape[1]))


def _labels(header: list[str], xdi: dict[int, str], columns: int) -> tuple[str, ...] | None:
    """Column labels: XDI's own, else the last header line when it has one name for each column."""
    if 1 in xdi and len(xdi) <= columns:
        return tuple(xdi.get(column, f"column {column}") for column in range(1, columns + 1))
    if len(header) == columns:
        return tuple(label.strip("\"'").lower() for label in header)
    return None


def _split(line: str) -> list[str]:
    """The cells of a line: semicolons or tabs separate first, then commas, then blanks."""
    for separator in (";", "\t", ","):
        if separator in line:
            return [cell.strip() for cell in line.strip(f" {separator}").split(separator) if cell.strip()]
    return line.split()


def _numbers(line: str) -> list[float] | None:
    """The numbers of a row, or None when a cell is not one; a comma is decimal beside other separators."""
    cells = _split(line)
    if ";" in line or "\t" in line:
        cells = [cell.replace(",", ".") for cell in cells]
    if len(cells) == 1 or any(" " in cell for cell in cells):
        cells = line.replace(",", " ").split()
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def _choose_columns(table: _Table, path: Path) -> tuple[int, int, tuple[str, ...]]:
    """Indices of energy and intensity, and a note that says so."""
    labels = table.labels
    if labels is None:
        return 0, 1, ("columns without names: the first as energy in eV, the second as intensity",)
    named = [column for column, label in enumerate(labels) if _ENERGY.search(label)]
    if not named and any("angle" in label for label in labels):
        raise UserError("the file has angles and no energies", got=path, fix="convert the angles to eV first")
    energy = named[0] if named else 0
    others = [column for column in range(len(labels)) if column != energy]
    intensity = next(
        (
            column
            for pattern in _INTENSITY
            for column in others
            if pattern.search(labels[column].split()[0]) and not _NOT_INTENSITY.search(labels[column])
        ),
        others[0],
    )
    return (
        energy,
        intensity,
        (f"columns '{labels[energy]}' as energy and '{labels[intensity]}' as intensity",),
    )


def _check_rows(energies: np.ndarray, values: np.ndarray, lines: tuple[int, ...], path: Path) -> None:
    """Raise UserError at the first row that is not finite or whose energy does not ascend."""
    broken = np.flatnonzero(~(np.isfinite(energies) & np.isfinite(values)))
    if broken.size:
        row = int(broken[0])
        got = f"{energies[row]:g}, {values[row]:g} in {path}"
        raise UserError(f"line {lines[row]} of the spectrum is not finite", got=got, fix="remove that line")
    steps = np.diff(energies)
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0])
        kind = "repeats an energy" if steps[row] == 0 else "descends in energy"
        raise UserError(
            f"line {lines[row + 1]} of the spectrum {kind}",
            got=f"{energies[row]:g} eV, then {energies[row + 1]:g} eV in {path}",
            fix="sort the rows by ascending energy and keep one for each",
        )

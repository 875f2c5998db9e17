"""Oracles that calculate one absorber at a time: how they are run, and what is finished of a label."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field

from nearedge_db.errors import UserError
from nearedge_db.hashing import structure_hash
from nearedge_services.oracles.elsewhere import Row
from nearedge_services.oracles.errors import MissingData, NotFinite
from nearedge_services.oracles.external import Limits
from nearedge_services.oracles.leftovers import KEPT_DAYS, work_root

logger = logging.getLogger(__name__)

_SECONDS = "seconds"

Absorbers = tuple[int, ...] | tuple[str, ...] | None
"""Atoms to calculate: these, counted from 0, all of these elements, or (None) all that can absorb."""


class RunSettings(BaseModel):
    """How an oracle runs its programs. Nothing here changes a label, so nothing here is in the settings' hash."""

    # numbers are words of a command too: [mpirun, -np, 4]
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    workers: int = Field(default=1, ge=1)
    """Absorbers calculated at a time, each by programs of its own. Give the labeler's pool as many CPUs."""
    elsewhere: int | None = Field(default=None, ge=0)
    """Further absorbers at a time, in processes of the Ray cluster that have the CPUs of one worker each, on whatever
    node is free. 0: none; None: as many as CPUs are free. Without Ray there are none."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall-clock time of one program, s; beyond it the absorber counts as timed out."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory of one program, GiB."""

    @property
    def limits(self) -> Limits:
        """The same for the external runner."""
        return Limits(seconds=self.seconds, memory_gib=self.memory_gib)


_asked: ContextVar[str | None] = ContextVar("asked", default=None)


@contextlib.contextmanager
def asked_as(settings_hash: str) -> Iterator[None]:
    """Labels made inside are those of settings with this hash: what is finished is kept under it, on whatever rung of
    the ladder, and goes into no label that was asked for with others.
    """
    token = _asked.set(settings_hash)
    try:
        yield
    finally:
        _asked.reset(token)


class Finished:
    """The absorbers of one structure, under one set of settings, that are done: a file for each.

    A label that failed or was killed on the way goes on from there. `complete` once the label is.
    """

    def __init__(
        self, atoms: Atoms, settings_hash: str, root: Path | None = None, *, version: str = ""
    ) -> None:
        """``root`` is where folders are made, by default `work_root`. ``version`` is that of the program: parts of two
        versions never meet.
        """
        identity = structure_hash(atoms.numbers, atoms.positions, atoms.cell.array)
        name = f"{identity[:32]}-{(_asked.get() or settings_hash)[:32]}"
        self.folder = (root or work_root()) / (f"{name}-{version}" if version else name)
        self.reused_s = 0.0
        """What the parts took that this try took over, from an earlier one or from elsewhere, s: how much longer it
        would have taken by itself."""

    def load(self, name: int | str) -> Row | None:
        """What was kept of an absorber, or under another name; None where nothing was, or cannot be read."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        except (BadZipFile, EOFError, OSError, ValueError) as error:
            logger.warning("what was kept cannot be read, and is calculated anew: %s: %s", path, error)
            return None

    def once(self, name: int | str, compute: Callable[[], Row]) -> Row:
        """What was kept under the name, or else what ``compute`` gives, which is kept."""
        row = self.load(name)
        if row is None:
            return self.compute(name, compute)
        self.reused_s += seconds_of(row)
        return row

    def compute(self, name: int | str, compute: Callable[[], Row]) -> Row:
        """What ``compute`` gives, which is kept with the time it took."""
        row = timed(compute)
        self.keep(name, row)
        return row

    def keep(self, name: int | str, row: Row) -> None:
        """Keep the arrays; the file appears whole or not at all. Raises NotFinite: the next try is not to find that."""
        for key, values in row.items():
            if np.issubdtype(values.dtype, np.number) and not np.isfinite(values).all():
                raise NotFinite(f"{key} of {name} is not finite")
        if not self.folder.exists():
            self._sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=self.folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **row)
            file.flush()
            os.fsync(file.fileno())
        Path(path).replace(self.folder / f"{name}.npz")

    def _sweep(self) -> None:
        """Remove what other labels left too long ago."""
        for folder in self.folder.parent.glob("*-*"):
            with contextlib.suppress(FileNotFoundError):  # others store their labels meanwhile
                if time.time() - folder.stat().st_mtime > KEPT_DAYS * 86400:
                    shutil.rmtree(folder, ignore_errors=True)

    def complete(self) -> None:
        """The label is complete: forget all of it, unless the caller does once the label is stored."""
        unstored = _unstored.get()
        if unstored is None:
            self.clear()
        else:
            unstored.labels.append(self)

    def clear(self) -> None:
        """Forget all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def installed_version(package: str) -> str:
    """Of a Python package. Raises MissingData where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise MissingData(f"{package} is not installed: run `make dft`") from None


class Unstored:
    """What was finished of labels that are complete and not stored yet."""

    def __init__(self) -> None:
        self.labels: list[Finished] = []

    def clear(self) -> None:
        """Forget it: they are stored, or no good."""
        for one in self.labels:
            one.clear()
        self.labels = []


_unstored: ContextVar[Unstored | None] = ContextVar("unstored", default=None)


@contextlib.contextmanager
def until_stored() -> Iterator[Unstored]:
    """Keep what is finished of labels that are made inside: `Unstored.clear` is for whoever has stored them.

    What nobody clears is removed after `KEPT_DAYS`. Outside of such a block it is forgotten with the label complete.
    After an error inside, what was kept of labels that were complete is forgotten: it would lead to the same error.
    """
    unstored = Unstored()
    token = _unstored.set(unstored)
    try:
        yield unstored
    except Exception:
        unstored.clear()
        raise
    finally:
        _unstored.reset(token)


def timed(compute: Callable[[], Row]) -> Row:
    """What it gives, with the time it took."""
    started = time.perf_counter()
    row = compute()
    return {**row, _SECONDS: np.array(time.perf_counter() - started)}


def seconds_of(row: Row) -> float:
    """What a kept part took, s; nothing where it was kept by a version that did not say."""
    return float(row.get(_SECONDS, 0.0))


def turns(absorbers: Sequence[int], workers: int) -> int:
    """Absorbers that follow each other where ``workers`` are calculated at a time."""
    return -(-len(absorbers) // workers)


def chosen_absorbers(
    numbers: npt.NDArray[np.int64],
    possible: npt.NDArray[np.bool_],
    wanted: Absorbers,
    *,
    by_index: bool = True,
) -> list[int]:
    """Indices of the atoms to calculate: all that are possible (N,), or those asked for by index or element.

    Without ``by_index`` the numbers are a list of elements and no structure, so indices say nothing: all that are
    possible. Raises UserError for an index that is not an atom or cannot absorb, and for an element none of whose atoms
    can.
    """
    everyone = [int(index) for index in np.flatnonzero(possible)]
    if wanted is None or (not by_index and all(isinstance(one, int) for one in wanted)):
        return everyone
    symbols = {chemical_symbols[numbers[index]] for index in everyone}
    indices = []
    for one in wanted:
        if isinstance(one, int):
            indices.append(one)
        elif one in symbols:
            indices += [index for index in everyone if chemical_symbols[numbers[index]] == one]
        else:
            raise UserError(
                "an absorber of the settings is not an element that this oracle gives spectra for here",
                got=one,
                fix=f"choose of {', '.join(sorted(symbols)) or 'no elements'}, or leave out absorbers",
            )
    for index in indices:
        if index not in everyone:
            there = f"{index} ({chemical_symbols[numbers[index]]})" if 0 <= index < len(numbers) else index
            raise UserError(
                "an absorber of the settings is not an atom that this oracle gives spectra for",
                got=there,
                fix=f"choose of the {len(everyone)} it can, counted from 0, or leave out absorbers",
            )
    return sorted(set(indices))


def symbols_of(numbers: npt.NDArray[np.int64], indices: Sequence[int]) -> set[str]:
    """Elements of these atoms."""
    return {chemical_symbols[numbers[index]] for index in indices}

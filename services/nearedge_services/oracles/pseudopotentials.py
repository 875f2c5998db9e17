"""Pseudopotential files of Quantum ESPRESSO: where they are, and the core orbital inside."""

import gzip
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import NotInstalled, UnfitSettings

DEBIAN = {
    "C_PBE_TM_2pj.UPF": "9d85a4306edf1673cc4af0dae25046a5693292f3dd1ffdcf9bb0b24349d52a8a",
    "Ch_PBE_TM_2pj.UPF": "6d463516627c1e631afbd40bf367e53c89e13542ede46d9986a3e5e39561c7c6",
}
"""SHA-256 of the default files as `quantum-espresso-data` 6.7 has them."""

_NUMBERS = re.compile(r"<PP_R\b[^>]*>(.*?)</PP_R>", re.DOTALL)
_CORE = re.compile(r"<PP_GIPAW_CORE_ORBITAL(?:\.1)?\b[^>]*>(.*?)</PP_GIPAW_CORE_ORBITAL", re.DOTALL)


def find_pseudopotential(name: str, folders: Sequence[Path]) -> Path:
    """The file of that name, or of that name with .gz. Raises UserError where no folder has it."""
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise NotInstalled(
        f"there is no pseudopotential {name}",
        got=f"looked in {', '.join(str(folder) for folder in folders) or 'no folders'}",
        fix="apt-get install quantum-espresso-data, or name yours with pseudopotentials and run.pseudo_dirs",
    )


def read_pseudopotential(path: Path) -> str:
    """Its text, unpacked."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", errors="replace")


def digest(text: str) -> str:
    """SHA-256 of a file's text: two files of one name need not be one."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(path: Path) -> str:
    """The same of a file. Raises UserError where it cannot be read."""
    try:
        return digest(read_pseudopotential(path))
    except (OSError, EOFError) as error:
        raise UserError(
            "a pseudopotential cannot be read", got=f"{path} ({error})", fix="mend the file"
        ) from error


def core_orbital(text: str, name: str) -> str:
    """The 1s orbital as xspectra.x wants it: two columns, radius (bohr) and radial function.

    Raises UnfitSettings where the pseudopotential has no GIPAW reconstruction data.
    """
    radii, orbital = _NUMBERS.search(text), _CORE.search(text)
    if radii is None or orbital is None:
        raise UnfitSettings(f"{name} has no GIPAW core orbital, which xspectra.x needs")
    first, _, rest = orbital[1].strip().partition("\n")
    values = rest if re.search(r"[A-DF-Za-df-z]", first) else orbital[1]  # version 1 begins with a title
    columns = np.column_stack([np.array(part.split(), float) for part in (radii[1], values)])
    return "#number of core states  1\n" + "".join(f"{r:.12g} {value:.11E}\n" for r, value in columns)

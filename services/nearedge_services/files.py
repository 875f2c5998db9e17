"""Files that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """The name of a file beside ``path`` to write to; it takes the place of ``path`` once the block has ended well.

    Otherwise ``path`` stays as it was. Links are followed, suffix and permissions stay; what is no ordinary file
    (a pipe, ``/dev/stdout``) is written to as it is. Raises OSError where ``path`` cannot be replaced.

    >>> with replacing("out.csv") as partial:  # doctest: +SKIP
    ...     partial.write_text("energy_eV,intensity")
    """
    path = Path(path)
    is_device = path.absolute().parts[1:2] in {
        ("dev",),
        ("proc",),
    }  # also where a shell leads them into a file
    if is_device or (path.exists() and not path.is_file()):
        yield path
        return
    path = path.resolve()
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield partial
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

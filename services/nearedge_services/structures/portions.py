"""Dividing many structures into what is worked on together."""

from collections.abc import Iterator, Sequence

from ase import Atoms


def portions(structures: Sequence[Atoms], most_atoms: int) -> Iterator[list[int]]:
    """Indices of consecutive structures with at most so many atoms together, one structure at least."""
    portion: list[int] = []
    filled = 0
    for index, atoms in enumerate(structures):
        if portion and filled + len(atoms) > most_atoms:
            yield portion
            portion, filled = [], 0
        portion.append(index)
        filled += len(atoms)
    if portion:
        yield portion

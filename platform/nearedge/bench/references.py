"""Independent networks to compare generated ones with: from a file, or made and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from nearedge.bench.workshop import Workshop
from nearedge_db.errors import UserError
from nearedge_services.potential.quench import QuenchSettings, quench
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.extxyz import labelled, read_structures, write_structures

SAME_DENSITY_G_CM3 = 0.03
"""Networks this close in density are of one density."""

_TOGETHER_ATOMS = 256


@dataclass(frozen=True)
class Wanted:
    """So many networks of a size and density."""

    atoms: int
    density_g_cm3: float
    count: int


class References:
    """Networks by size and density.

    With ``--reference`` they all come from that file. Otherwise they are melt-quenched with the models'
    potential from seeds of their own, so no training has seen them, and kept in the output folder: a second
    run finds them there.
    """

    def __init__(self, workshop: Workshop, quench_settings: QuenchSettings) -> None:
        options = workshop.options
        self.workshop = workshop
        self.settings = quench_settings
        self.given = options.reference
        self.kept = options.out / "references.extxyz"
        self.potential = workshop.names["potential"]
        self.known: list[Atoms] = []
        if self.given is not None:
            self.known = read_structures(self.given)
        else:
            self.known = read_structures(self.kept) if self.kept.is_file() else []

    @property
    def source(self) -> str:
        """Where they come from, in words."""
        return "melt-quenches with the potential" if self.given is None else str(self.given)

    def find(self, wanted: Wanted) -> list[Atoms]:
        """Those that are there. A file may hold other sizes than asked for: then of any size."""
        near = [a for a in self.known if abs(density_g_cm3(a) - wanted.density_g_cm3) < SAME_DENSITY_G_CM3]
        same = [atoms for atoms in near if len(atoms) == wanted.atoms]
        if self.given is not None:
            return same or near
        return [atoms for atoms in same if self.usable(atoms)][: wanted.count]

    def usable(self, atoms: Atoms) -> bool:
        """Whether a kept network was made with this potential, and not quenched faster than asked for."""
        steps = int(atoms.info.get("quench_steps", 0))
        return atoms.info.get("potential") == self.potential and steps >= self.settings.quench_steps

    def densities(self) -> list[float]:
        """Densities in a given file, g/cm³, rounded to 0.01."""
        return sorted({round(density_g_cm3(atoms), 2) for atoms in self.known})

    def make(self, wishes: Sequence[Wanted], at: Callable[[float, str], None]) -> None:
        """Quench what is missing and keep it.

        Raises UserError when a given file lacks a density, or no quench at a density came to its end.
        """
        jobs = [(w, k) for w in wishes for k in range(len(self.find(w)), w.count)]
        if self.given is not None:
            missing = sorted({w.density_g_cm3 for w in wishes if not self.find(w)})
            if missing:
                raise UserError(
                    "the reference has no network of a density that is needed",
                    got=f"{', '.join(f'{d:g}' for d in missing)} g/cm³",
                    fix="add networks, or leave --reference out to have them made",
                )
            return
        for number, batch in enumerate(batches := _batches(jobs)):
            at(number / len(batches), f"{len(batch)} networks of {batch[0][0].atoms} atoms")
            self._quench(batch)
        none = sorted({w.density_g_cm3 for w in wishes if not self.find(w)})
        if none:
            raise UserError(
                "no melt-quench with this potential came to its end",
                got=f"{', '.join(f'{d:g}' for d in none)} g/cm³",
                fix="use another potential, or give networks with --reference",
            )

    def label(self, networks: Sequence[Atoms]) -> list[Atoms]:
        """Labelled by the oracle; labels of the same oracle that are there are used."""
        name = self.workshop.names["oracle"]
        have = [a for a in networks if labelled(a) and a.info.get("oracle_hash") == name]
        fresh = self.workshop.label([a for a in networks if not any(a is b for b in have)])
        for atoms in fresh:
            atoms.info["oracle_hash"] = name
        return [*have, *fresh]

    def _quench(self, batch: Sequence[tuple[Wanted, int]]) -> None:
        atoms = batch[0][0].atoms
        names = [f"reference-{w.atoms}-{w.density_g_cm3:g}-{k}" for w, k in batch]
        seeds = [self.workshop.seeds(name, 1)[0] for name in names]
        densities = [wish.density_g_cm3 for wish, _ in batch]
        results = quench(
            self.workshop.potential, self.workshop.composition(atoms), densities, seeds, self.settings
        )
        made = [result.final for result in results if result.final is not None]
        for network in made:
            network.info.update(quench_steps=self.settings.quench_steps, potential=self.potential)
        if made and atoms <= _TOGETHER_ATOMS // 2:
            made = self.label(made)
        if made:
            write_structures(self.kept, made, append=self.kept.is_file())
        self.known += made


def _batches(jobs: Sequence[tuple[Wanted, int]]) -> list[list[tuple[Wanted, int]]]:
    """Jobs of one size, a few hundred atoms together."""
    batches: list[list[tuple[Wanted, int]]] = []
    for job in sorted(jobs, key=lambda j: j[0].atoms):
        size = job[0].atoms
        last = batches[-1] if batches else []
        if last and last[0][0].atoms == size and (len(last) + 1) * size <= _TOGETHER_ATOMS:
            last.append(job)
        else:
            batches.append([job])
    return batches


def pair_spread(curves: np.ndarray) -> float | None:
    """Mean over all pairs of the root mean square difference of curves (n, X); None for fewer than two."""
    pairs = [(i, j) for i in range(len(curves)) for j in range(i)]
    if not pairs:
        return None
    return float(np.mean([np.sqrt(np.mean((curves[i] - curves[j]) ** 2)) for i, j in pairs]))

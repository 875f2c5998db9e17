"""What a label will cost, in time and in memory, learnt from labels that were made.

Seconds are those of one run, a power of the number of atoms, times the runs that follow each other: oracles that treat
one absorber at a time have as many as absorbers. Memory is a power of the number of atoms. Only labels of the same
oracle and settings may be given together. One label on a machine that was busy with something else hardly moves either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from nearedge_db.attempts import FinishedLabel, finished_labels
from nearedge_services.oracles.power_law import PowerLaw, Prior, fit

SECONDS = Prior(exponent=2.0, exponent_spread=1.0, most=3.0, spread=0.7)
"""Of one run: between a local method (1) and diagonalisation (3); a factor of two about the law."""
SECONDS_OF_A_CLUSTER = Prior(exponent=0.0, exponent_spread=1.0, most=3.0, spread=0.7)
"""Of one run that takes a cluster of a fixed radius out of the cell, however large that is."""
GIB = Prior(exponent=1.0, exponent_spread=0.7, most=2.0, spread=0.4)
"""From that of a program that is there without atoms (0) to matrices (2)."""

FEWEST_FOR_LIMIT = 8
"""Labels that must be known before a time limit is learnt from them."""
SHORTEST_LIMIT_S = 600.0
FIRST_LIMIT_S = 6 * 3600.0
"""What a label may take while so few are known."""
FIRST_SEED_LIMIT_S = 4 * FIRST_LIMIT_S
"""What a starting structure may take, whose relaxation is tens of runs."""
LONGER = 3.0
"""How much longer after each time-out."""
_GENEROSITY = 5.0
_OF_CLUSTERS = ("feff",)


@dataclass(frozen=True)
class CostModel:
    """Time and memory of labels of one oracle with one set of settings.

    Attributes:
        run: seconds of one run by atoms.
        memory: GiB by atoms; None where none is known.
        runs_per_atom: how many runs follow each other, usually; None: one, however many atoms.
    """

    run: PowerLaw
    memory: PowerLaw | None
    runs_per_atom: float | None

    @property
    def labels(self) -> int:
        """How many it was learnt from."""
        return self.run.count

    def usual_runs(self, atoms: int) -> int:
        """As labels before had it, for so many atoms."""
        return 1 if self.runs_per_atom is None else max(1, round(self.runs_per_atom * atoms))

    def seconds(self, atoms: int, runs: int = 1) -> float:
        """The middle of what is to be expected, s."""
        return runs * self.run.middle(atoms)

    def upper_seconds(self, atoms: int, runs: int = 1) -> float:
        """What hardly any label exceeds, s; much more than ``seconds`` far from the sizes that were seen."""
        return runs * self.run.upper(atoms)

    def gib(self, atoms: int) -> float | None:
        """Memory that is to be expected, GiB."""
        return None if self.memory is None else self.memory.middle(atoms)

    def upper_gib(self, atoms: int) -> float | None:
        """Memory that hardly any label exceeds, GiB."""
        return None if self.memory is None else self.memory.upper(atoms)

    def limit_s(self, atoms: int, runs: int, timeouts: int) -> float | None:
        """A generous time limit, s, three times as long for each time-out before; None while too few are known."""
        if self.labels < FEWEST_FOR_LIMIT:
            return None
        generous = _GENEROSITY * self.upper_seconds(atoms, runs)
        return float(max(SHORTEST_LIMIT_S, generous) * LONGER**timeouts)


def learn(labels: Sequence[FinishedLabel], oracle: str) -> CostModel | None:
    """The model of these labels, all by the oracle of that name; None where there is none.

    Example:
        >>> seen = [FinishedLabel(atoms, 1, 0.01 * atoms**2, None) for atoms in (16, 32, 64)]
        >>> round(learn(seen, "xtb").seconds(128))
        164
    """
    seen = [one for one in labels if one.atoms > 0 and one.seconds > 0]
    atoms = [one.atoms for one in seen]
    prior = SECONDS_OF_A_CLUSTER if oracle in _OF_CLUSTERS else SECONDS
    run = fit(atoms, [one.seconds / max(one.runs, 1) for one in seen], prior)
    if run is None:
        return None
    several = any(one.runs > 1 for one in seen)
    return CostModel(
        run,
        fit(atoms, [one.peak_gib or 0.0 for one in seen], GIB),
        median(one.runs / one.atoms for one in seen) if several else None,
    )


def learnt(session: Session, oracle: str, settings_hash: str) -> CostModel | None:
    """The model of the labels of these settings in the database, of whatever campaign; None without any."""
    return learn(finished_labels(session, settings_hash), oracle)

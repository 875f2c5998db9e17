"""All that is known of one campaign of the bench when it is over."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from nearedge.bench.chaos.account import Again, Attempt, Entry, Kill, again, attempts, lost, twice
from nearedge.bench.chaos.journal import Line
from nearedge.bench.chaos.plan import FAULTS


@dataclass(frozen=True)
class Outcome:
    """How a campaign ended, and what it found.

    Attributes:
        status: exit status of its last driver; None where it was ended because it took too long.
        seconds: wall-clock time.
        sessions: drivers.
        guided, baseline: labels of guided and unguided samples.
        best_distance: smallest spectral distance of a guided structure, 1/eV.
        best_over_start: the same over that of the starting structures.
        late_over_unguided: see `nearedge.summary`.
        label_times: when each label was seen first, seconds from the start, ascending.
    """

    status: int | None
    seconds: float
    sessions: int
    guided: int
    baseline: int
    best_distance: float | None
    best_over_start: float | None
    late_over_unguided: float | None
    label_times: list[float]

    @property
    def ratios(self) -> dict[str, float | None]:
        """How good the answer is, by the names of `nearedge.bench.chaos.quality.SPREADS`."""
        return {
            "best over best starting structure": self.best_over_start,
            "late over unguided": self.late_over_unguided,
        }


@dataclass(frozen=True)
class Evidence:
    """What a disturbed campaign was like.

    Attributes:
        started: when, seconds since the epoch.
        lines: of the oracle's journal.
        kills: that were carried out.
        ledger: label tasks by structure.
        seen: label rows that were in the database at any time, by structure.
        labels: label rows at the end.
        open_tasks: tasks that are not finished at the end.
        trainings_again: attempts of trainings beyond the first of each.
        actors: that lived when the driver had ended.
        orphans: processes that lived when everything had ended.
        scratch: what was left in the temporary folder.
    """

    started: float
    lines: list[Line]
    kills: list[Kill]
    ledger: dict[str, Entry]
    seen: dict[str, int]
    labels: dict[str, int]
    open_tasks: int
    trainings_again: int
    actors: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    scratch: list[str] = field(default_factory=list)

    @cached_property
    def tried(self) -> dict[str, list[Attempt]]:
        """Calculations by structure."""
        return attempts(self.lines)

    @cached_property
    def faults(self) -> Counter[str]:
        """How often the oracle failed on purpose, by kind."""
        return Counter(line.note for line in self.lines if line.what == "fault")

    @cached_property
    def again(self) -> list[Again]:
        """Calculations that had to be done again."""
        return again(self.tried, self.kills)

    @property
    def lost(self) -> list[str]:
        """Structures whose label was lost."""
        return lost(self.tried, self.seen, self.labels)

    @property
    def twice(self) -> list[str]:
        """Structures that were computed twice without need."""
        return twice(self.tried, self.ledger)

    @property
    def given_up_for_a_fault(self) -> list[str]:
        """Structures without a label for no other reason than a fault of the oracle, which it has once."""
        return [
            key
            for key, entry in self.ledger.items()
            if entry.state == "QUARANTINED"
            and any(one.note in FAULTS for one in self.tried.get(key, [])[-1:])
        ]

    @property
    def given_up(self) -> list[Entry]:
        """Labels that failed for good, with the reason."""
        return [entry for entry in self.ledger.values() if entry.state == "QUARANTINED"]

"""What the oracle of a campaign did, told by the oracle: a witness that knows nothing of the ledger.

The program is that of the bench ``chaos``, whose ``xtb`` keeps a journal; here it has no faults.
"""

import os
import sys
from collections import Counter
from pathlib import Path

from nearedge.bench.chaos.account import attempts
from nearedge.bench.chaos.journal import Journal, Line
from nearedge.bench.chaos.oracle import JOURNAL_FILE, PLAN_VARIABLE
from nearedge.bench.chaos.plan import OraclePlan

PAUSE_S = 0.3
"""How long a label takes at least: long enough to be found under way."""


class Witness:
    """The journal of the campaign that is run in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = folder / "plan.json"
        OraclePlan(folder=str(folder), seed=0, at={}, share=0.0, pause_s=PAUSE_S).save(self.plan)
        self.journal = Journal(folder / JOURNAL_FILE)

    def command(self, *arguments: str) -> list[str]:
        """The program with the oracle that keeps the journal."""
        return [sys.executable, "-m", "nearedge.bench.chaos.driving", *arguments]

    def environment(self) -> dict[str, str]:
        """One thread for everything, and where the journal is."""
        return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", PLAN_VARIABLE: str(self.plan)}

    def lines(self) -> list[Line]:
        """All that the oracle has written so far."""
        return self.journal.read()

    def computed(self) -> Counter[str]:
        """How often a label of each structure was computed to its end."""
        return Counter(line.key for line in self.lines() if line.what == "ended")

    def begun(self, after: int = 0) -> list[str]:
        """Structures whose label was begun, after so many lines of the journal."""
        return [line.key for line in self.lines()[after:] if line.what == "begun"]

    def cut_off(self) -> list[str]:
        """Structures that were begun and came to no end, each time."""
        return [key for key, ones in attempts(self.lines()).items() for one in ones if one.ended is None]

    def at_the_same_time(self) -> list[str]:
        """Structures that two living processes had at once."""
        return [line.key for line in self.lines() if line.what == "beside"]

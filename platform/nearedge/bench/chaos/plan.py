"""When and where it fails: everything follows from a seed."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

Fault = Literal["hang", "crash", "not a number", "wrong shape"]
"""What an oracle may do instead of its work."""
FAULTS: tuple[Fault, ...] = get_args(Fault)

Victim = Literal["labeler", "driver", "trainer", "generator", "node"]
"""Whom ``kill -9`` hits."""
VICTIMS: tuple[Victim, ...] = get_args(Victim)

LATEST_DELAY_S = 2.0


@dataclass(frozen=True)
class OraclePlan:
    """Which structures the oracle fails for, once each.

    Attributes:
        folder: of the journal and of the marks of faults that have happened.
        seed: decides for structures that are not known beforehand.
        at: fault of each structure (by its hash) that is.
        share: probability of a fault for every other one.
        pause_s: how long a calculation takes at least: a program of an electronic structure would take longer.
    """

    folder: str
    seed: int
    at: dict[str, Fault]
    share: float
    pause_s: float

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "OraclePlan":
        """What `save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def fault_of(self, key: str) -> Fault | None:
        """What is to happen to a structure."""
        if key in self.at:
            return self.at[key]
        digest = hashlib.sha256(f"{self.seed} {key}".encode()).digest()
        if int.from_bytes(digest[:4], "big") >= self.share * 2**32:
            return None
        return FAULTS[digest[4] % len(FAULTS)]

    def take(self, key: str) -> Fault | None:
        """What is to happen to it now: `fault_of` the first time that any process asks, nothing later."""
        fault = self.fault_of(key)
        if fault is None:
            return None
        try:
            os.close(os.open(Path(self.folder) / f"fault-{key}", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return None
        return fault


def faults_of_known(keys: Sequence[str], seed: int) -> dict[str, Fault]:
    """Each kind of fault for one structure of those known beforehand; raises ValueError for fewer than kinds."""
    if len(keys) < len(FAULTS):
        raise ValueError(f"{len(keys)} structures for {len(FAULTS)} kinds of faults")
    chosen = np.random.default_rng([seed, 1]).choice(len(keys), len(FAULTS), replace=False)
    return {sorted(keys)[index]: fault for index, fault in zip(chosen, FAULTS, strict=True)}


@dataclass(frozen=True)
class Strike:
    """One ``kill -9``: so long after so many labels are stored, or as soon as the victim is at work then."""

    victim: Victim
    after_labels: int
    delay_s: float


def strikes(victims: Sequence[Victim], first: int, last: int, seed: int) -> list[Strike]:
    """One for every victim, at random numbers of labels from ``first`` to ``last``, the earliest first."""
    generator = np.random.default_rng([seed, 2])
    counts = generator.integers(first, last + 1, len(victims))
    delays = generator.uniform(0.0, LATEST_DELAY_S, len(victims))
    drawn = [
        Strike(victim, int(count), float(delay))
        for victim, count, delay in zip(victims, counts, delays, strict=True)
    ]
    return sorted(drawn, key=lambda strike: strike.after_labels)

"""The oracle ``xtb`` as the bench runs it: beside an external program, with a journal, and with planned faults.

It is no oracle of the program: it takes the place of ``xtb`` only in processes that call `install`, which are those
of the bench's campaigns (`driving`). Name, settings and labels are those of ``xtb``.
"""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import BaseModel

from nearedge.bench.chaos.journal import Journal
from nearedge.bench.chaos.plan import Fault, OraclePlan
from nearedge_db.hashing import structure_hash
from nearedge_services.oracles import factory
from nearedge_services.oracles.base import Label, Oracle
from nearedge_services.oracles.external import Session
from nearedge_services.spectra.grid import EnergyGrid

PLAN_VARIABLE = "NEAREDGE_CHAOS_PLAN"
"""Environment variable with the file of the plan."""
JOURNAL_FILE = "journal.jsonl"
HOOK = "nearedge.bench.chaos.oracle.install"
"""What Ray calls in every worker process of the bench's campaigns."""

_FOREVER = ["sleep", "1000000"]


class FaultyOracle:
    """Another oracle's labels, unless the plan says otherwise."""

    def __init__(self, inner: Oracle, plan: OraclePlan) -> None:
        self.inner = inner
        self.plan = plan
        self.name = inner.name
        self.journal = Journal(Path(plan.folder) / JOURNAL_FILE)

    @property
    def settings(self) -> BaseModel:
        """Those of the other oracle."""
        return self.inner.settings

    @property
    def grid(self) -> EnergyGrid:
        """That of the other oracle."""
        return self.inner.grid

    @property
    def settings_hash(self) -> str:
        """That of the other oracle: its faults change no label."""
        return self.inner.settings_hash

    def check_elements(self, numbers: npt.ArrayLike) -> None:
        """As the other oracle does."""
        self.inner.check_elements(numbers)

    def calculator(self) -> Calculator:
        """That of the other oracle: no faults."""
        return self.inner.calculator()

    def label(self, atoms: Atoms) -> Label:
        """The other oracle's label, or what the plan has for this structure."""
        key = structure_hash(atoms.numbers, atoms.positions, atoms.cell.array)
        self.journal.begin(key)
        fault = self.plan.take(key)
        try:
            with Session("chaos") as session:
                atoms.write(session.folder / "structure.xyz", format="extxyz")
                if fault is not None:
                    self.journal.write("fault", key, fault)
                    return self._fail(fault, session, atoms)
                session.run(["sleep", str(self.plan.pause_s)]).check()
                label = self.inner.label(atoms)
        except Exception as error:
            if fault is None:
                self.journal.write("failed", key, f"{type(error).__name__}: {error}"[:500])
            raise
        self.journal.write("ended", key)
        return label

    def _fail(self, fault: Fault, session: Session, atoms: Atoms) -> Label:
        if fault == "hang":
            session.run(_FOREVER)
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        label = self.inner.label(atoms)
        if fault == "wrong shape":
            return _changed(label, xanes=label.xanes[:-1], forces_ev_per_a=label.forces_ev_per_a[:-1])
        return _changed(label, xanes=np.full_like(label.xanes, np.nan))


def _changed(label: Label, **values: Any) -> Label:
    return Label(**{**vars(label), **values})


def install() -> None:
    """Put it in the place of ``xtb`` in this process. Raises KeyError outside of the bench."""
    plan = OraclePlan.load(Path(os.environ[PLAN_VARIABLE]))
    real = factory.ORACLES["xtb"]

    def faulty(settings: Mapping[str, Any]) -> Oracle:
        return FaultyOracle(real(settings), plan)

    factory.ORACLES["xtb"] = faulty

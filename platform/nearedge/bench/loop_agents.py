"""Agents that invent: what labelers and trainers do with the ledger and the database is real, what they find is not.

A structure's spectrum is the target with a bump whose height the positions decide, so labels repeat. A subclass says
what starting structures are like, and changes what it wants to.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_agents.pool import Work
from nearedge_agents.tracking import TrackingReport
from nearedge_agents.worker import TaskReport, Write
from nearedge_db.ledger import Ledger, Task
from nearedge_db.schema import TaskRow
from nearedge_db.states import StructureOrigin, TaskKind, TaskState
from nearedge_db.store import add_model, get_structure, promote, put_atoms, put_label, to_atoms
from nearedge_services.spectra.spectrum import Spectrum

OWNER = "invented"
ATOM_ENERGY_EV = -50.0

Array = npt.NDArray[np.float64]


class InventingAgents:
    """Answers for the pools ``labeler`` and ``trainer``."""

    folder: Path
    """The run directory."""
    ledger: Ledger
    spectrum: Spectrum
    """The target, on the energies of the oracle."""

    def label(self, work: Work) -> TaskReport:
        """Label a structure, or make a starting one."""
        return self.do_task(work.args[0], self.write_label)

    def train(self, work: Work) -> Any:
        """Make a model of nothing; MLflow is told nothing."""
        return TrackingReport() if work.method == "track" else self.do_task(work.args[0], self.write_model)

    def do_task(self, task_id: int, write: Write) -> TaskReport:
        """As an actor does it: lease, work, result and DONE in one transaction, report."""
        task = self.ledger.lease(OWNER, task_id=task_id)
        if task is not None:
            reason = self.fails(task)
            if reason is None:
                if self.ledger.complete(task.id, OWNER, write, 0.0):
                    return TaskReport(task.id, TaskState.DONE)
            else:
                self.ledger.fail(task.id, OWNER, reason, retryable=False)
        done = self.ledger.get(task_id)
        return TaskReport(done.id, done.state, done.last_error)

    def fails(self, task: Task) -> str | None:
        """Why a task fails for good, if it does."""
        del task
        return None

    def starting_structure(self, payload: dict[str, Any]) -> Atoms:
        """The one that a seed task asks for."""
        raise NotImplementedError

    def calculate(self, atoms: Atoms, task: Task) -> tuple[float, Array]:
        """Energy (eV) and spectra (N, G) of a structure."""
        del task
        height = 0.05 + float(np.abs(atoms.positions).sum() * 1e3 % 500) / 1000
        bump = height * np.exp(-0.5 * ((self.spectrum.energies_ev - 20.0) / 1.5) ** 2)
        return ATOM_ENERGY_EV * len(atoms), np.tile(self.spectrum.intensity + bump, (len(atoms), 1))

    def write_label(self, session: Session, task: Task) -> None:
        """The rows of a label or of a starting structure."""
        if task.kind != TaskKind.SEED:
            self.put_label(session, to_atoms(get_structure(session, task.structure_id or 0)), task)
            return
        frame = self.put_label(session, self.starting_structure(task.payload), task)
        row = session.get_one(TaskRow, task.id)
        row.payload_json = {**task.payload, "frames": [{**frame, "origin": StructureOrigin.SEED.value}]}

    def put_label(self, session: Session, atoms: Atoms, task: Task) -> dict[str, int]:
        """Structure and label; their numbers."""
        structure = put_atoms(session, atoms)
        energy_ev, xanes = self.calculate(atoms, task)
        label = put_label(
            session,
            structure.id,
            task.settings_hash or "",
            energy_ev=energy_ev,
            forces=np.zeros((len(atoms), 3)),
            xanes=xanes,
            energies_ev=self.spectrum.energies_ev,
            seconds=0.0,
            task_id=task.id,
        )
        return {"structure_id": structure.id, "label_id": label.id}

    def write_model(self, session: Session, task: Task) -> None:
        """The row of a new champion, and a file in place of its weights."""
        payload = task.payload
        folder = self.folder / payload["folder"]
        if "start" not in payload:
            folder.mkdir(parents=True)
            (folder / "weights").write_text(payload["folder"], encoding="utf-8")
        model = add_model(
            session,
            task.campaign_id or 0,
            payload["model_kind"],
            dataset_hash=payload["dataset_hash"],
            n_train=len(payload["train"]),
            n_held_out=len(payload["held_out"]),
            metrics={"loss": 1.0},
            folder=payload["folder"],
            seed=payload["seed"],
            parent_id=payload["parent_model_id"],
        )
        promote(session, model.id)
        row = session.get_one(TaskRow, task.id)
        row.payload_json = {**payload, "model_id": model.id, "promoted": True}

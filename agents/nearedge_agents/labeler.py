"""The actor that runs the oracle: labels structures, and makes the starting structures."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ase import Atoms
from sqlalchemy.orm import Session

from nearedge_agents.absorbing import cluster_of_this_actor
from nearedge_agents.worker import LedgerWorker, Write
from nearedge_db.attempts import AttemptNote, failures_before
from nearedge_db.errors import UserError
from nearedge_db.ledger import Task
from nearedge_db.schema import TaskRow
from nearedge_db.states import StructureOrigin, TaskKind
from nearedge_db.store import get_structure, put_atoms, put_label, to_atoms
from nearedge_services.oracles.base import Label, Oracle, check_label, check_shapes, is_limited, runs_of
from nearedge_services.oracles.cost_model import FIRST_LIMIT_S, FIRST_SEED_LIMIT_S, LONGER, learnt
from nearedge_services.oracles.elsewhere import helped_by
from nearedge_services.oracles.errors import FailureKind, MissingData, OracleError, classified
from nearedge_services.oracles.external import allowance
from nearedge_services.oracles.factory import make_oracle
from nearedge_services.oracles.ladder import changed, changes_after
from nearedge_services.oracles.memory import Meter, metered
from nearedge_services.oracles.per_absorber import Unstored, asked_as, until_stored
from nearedge_services.oracles.seed import SeedResult, SeedSettings, make_seed
from nearedge_services.structures.composition import parse_composition
from nearedge_services.structures.coordination import coordination_fractions
from nearedge_services.structures.extxyz import DETAILS

logger = logging.getLogger(__name__)


class Labeler(LedgerWorker):
    """Works on ``label`` and ``seed`` tasks."""

    failures = (OracleError,)
    leaves_after = (MissingData,)

    def __init__(
        self,
        url: str,
        oracle: str,
        settings: dict[str, Any],
        task_minutes: float | None = None,
        confirm: tuple[str, dict[str, Any]] | None = None,
        hashes: Sequence[str] = (),
    ) -> None:
        """The labeler of a campaign.

        ``task_minutes``: the user's limit of one task.
        ``confirm`` is the second oracle with its settings, if the campaign has one. ``hashes`` are those of both as
        the campaign has them. Raises MissingData where theirs are others here, UserError where a program is missing.
        """
        super().__init__(url)
        self.task_minutes = task_minutes
        self.oracle = make_oracle(oracle, settings)
        self.confirming = None if confirm is None else make_oracle(*confirm)
        for wanted in hashes:
            self._oracle_with(wanted)
        self._changes: dict[str, Any] = {}
        self._runs: int | None = None
        self._meter: Meter | None = None
        self._unstored = Unstored()

    def result(self, task: Task) -> Write:
        """Run the oracle on the task's structure, or make its starting structure."""
        self._runs = self._meter = None
        self._changes = {}
        asked = self._oracle_of(task)
        oracle = self._climbed(asked, task)
        if task.kind == TaskKind.SEED:
            with self._watched(self._limit_s(asked, task)):
                return self._seed(oracle, task.payload)
        with self.database.session() as session:
            atoms = to_atoms(get_structure(session, task.structure_id or 0))
        with classified():
            self._runs = runs_of(oracle, atoms.numbers)
        limit_s = self._limit_s(asked, task, len(atoms))
        with self._watched(limit_s), asked_as(asked.settings_hash):
            label = check_label(check_shapes(oracle.label(atoms), len(atoms), asked.grid))
        if self._changes:
            label = replace(label, details={**label.details, "changed_settings": self._changes})
        return lambda session, done: _put(session, done, label)

    def may_retry(self, task: Task, error: Exception) -> bool:
        """Whether the ladder has another rung for what has gone wrong so far.

        Where the oracle of the task is not here, another node may have it: as often as the ledger tries.
        """
        if not super().may_retry(task, error):
            return False
        failures = [*self._failures(task), str(getattr(error, "kind", "crash"))]
        try:
            return _next(self._oracle_of(task), failures) is not None
        except MissingData:
            return True

    def note(self) -> AttemptNote:
        """The settings that were changed, and the memory that was needed."""
        peak_gib = None if self._meter is None else self._meter.gib
        return AttemptNote(self._changes, peak_gib, self._runs)

    def settled(self, task: Task) -> str | None:
        """What was kept of the label is no longer needed."""
        self._unstored.clear()
        return None

    @contextmanager
    def _watched(self, seconds: float | None = None) -> Iterator[None]:
        """Classify what goes wrong inside; end programs after so many seconds, or once nobody wants the task."""
        lease = self.lease
        cluster = cluster_of_this_actor()
        with (
            metered() as self._meter,
            classified(),
            allowance(seconds=seconds, cancelled=lambda: lease is not None and lease.lost),
            helped_by(cluster),
            until_stored() as self._unstored,
        ):
            yield
        if cluster is not None and cluster.nodes:
            logger.info("absorbers elsewhere", extra={"data": {"by_node": dict(cluster.nodes)}})

    def _limit_s(self, asked: Oracle, task: Task, atoms: int | None = None) -> float | None:
        """How long all programs of a label of so many atoms, or of a starting structure (None), may take.

        What the user set holds; else what is learnt from labels before, or long enough for any; three times as long
        after each time-out. None: no limit, or that of each program.
        """
        run: Any = getattr(asked.settings, "run", None)
        if not is_limited(asked):
            return None
        timeouts = self._failures(task).count(FailureKind.TIMEOUT)
        if self.task_minutes is not None:
            return 60.0 * self.task_minutes * LONGER**timeouts
        if run.seconds is not None:
            return None
        limit = None
        if atoms is not None:
            with self.database.session() as session:
                model = learnt(session, asked.name, asked.settings_hash)
            limit = None if model is None else model.limit_s(atoms, self._runs or 1, timeouts)
        first = FIRST_SEED_LIMIT_S if atoms is None else FIRST_LIMIT_S
        return first * LONGER**timeouts if limit is None else limit

    def _oracle_of(self, task: Task) -> Oracle:
        """The one whose settings the task names: nothing else may go by that name. Raises as `_oracle_with`."""
        return self._oracle_with(task.settings_hash)

    def _oracle_with(self, settings_hash: str | None) -> Oracle:
        """Raises MissingData where neither has this hash: its files on this node are not those of the campaign."""
        for oracle in (self.oracle, self.confirming):
            if oracle is not None and oracle.settings_hash == settings_hash:
                return oracle
        raise MissingData(
            f"the oracle's settings have the hash {self.oracle.settings_hash} here, and {settings_hash} in the "
            "campaign: the files that it names (pseudopotentials) are not the same on this node"
        )

    def _climbed(self, asked: Oracle, task: Task) -> Oracle:
        """The oracle with the settings that the failures before call for."""
        self._changes = _next(asked, self._failures(task)) or {}
        if not self._changes:
            return asked
        with classified():
            try:
                return make_oracle(asked.name, changed(_settings_of(asked), self._changes))
            except UserError as error:  # the settings are good: what they name has gone
                raise MissingData(str(error)) from error

    def _failures(self, task: Task) -> list[str]:
        with self.database.session() as session:
            return failures_before(session, task.id, task.attempts)

    def _seed(self, oracle: Oracle, payload: dict[str, Any]) -> Write:
        result = make_seed(
            oracle,
            parse_composition(payload["composition"]),
            payload["density_g_cm3"],
            payload["seed"],
            SeedSettings(**payload["settings"]),
        )
        return lambda session, done: _put_seed(session, done, result)


def _settings_of(oracle: Oracle) -> dict[str, Any]:
    return oracle.settings.model_dump(mode="json")


def _next(oracle: Oracle, failures: list[str]) -> dict[str, Any] | None:
    return changes_after(oracle.name, _settings_of(oracle), failures)


def _put(session: Session, task: Task, label: Label) -> None:
    put_label(
        session,
        task.structure_id or 0,
        task.settings_hash or "",
        energy_ev=label.energy_ev,
        forces=label.forces_ev_per_a,
        xanes=label.xanes,
        energies_ev=label.energies_ev,
        seconds=label.seconds,
        details=label.details,
        task_id=task.id,
    )


def _put_seed(session: Session, task: Task, result: SeedResult) -> None:
    """Structures and labels of all frames; the task's payload remembers which they are."""
    frames = [
        *((frame, StructureOrigin.SEED_PATH) for frame in result.path),
        *((frame, StructureOrigin.SEED_RATTLED) for frame in result.rattled),
        (result.final, StructureOrigin.SEED),
    ]
    seconds = result.seconds / len(frames)
    kept = [{**_put_frame(session, task, frame, seconds), "origin": origin.value} for frame, origin in frames]
    row = session.get_one(TaskRow, task.id)
    left_out = len(task.payload["settings"].get("rattle_a", SeedSettings().rattle_a)) - len(result.rattled)
    outcome = {"frames": kept, "converged": result.converged, "displaced_left_out": left_out}
    row.payload_json = {**task.payload, **outcome}


def _put_frame(session: Session, task: Task, frame: Atoms, seconds: float) -> dict[str, Any]:
    structure = put_atoms(session, frame, coordination_fractions(frame))
    label = put_label(
        session,
        structure.id,
        task.settings_hash or "",
        energy_ev=frame.info["REF_energy"],
        forces=frame.arrays["REF_forces"],
        xanes=frame.arrays["xanes"],
        energies_ev=frame.info["xanes_energies"],
        seconds=seconds,
        details=json.loads(frame.info.get(DETAILS, "{}")),
        task_id=task.id,
    )
    return {"structure_id": structure.id, "label_id": label.id}

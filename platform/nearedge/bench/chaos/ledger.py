"""What the database of a campaign of the bench says about its labels."""

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from nearedge.bench.chaos.account import Entry
from nearedge.rundir import RECORD_FILE, RunDir
from nearedge_db.database import Database
from nearedge_db.schema import LabelRow, Structure, TaskRow
from nearedge_db.states import TaskKind, TaskState


@dataclass
class Watch:
    """Looks at the labels again and again while the campaign runs.

    Attributes:
        run_dir: of the campaign.
        seen: the number of the label row of every structure that ever had one.
        times: when each was seen first, by ``clock``.
    """

    run_dir: Path
    seen: dict[str, int] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    _database: Database | None = None

    def look(self, now: float) -> int:
        """Look once; returns how many labels there are."""
        if self._database is None:
            if not (self.run_dir / RECORD_FILE).exists():  # written once the tables are there
                return 0
            self._database = Database(RunDir(self.run_dir).database_url)
        present = labels(self._database)
        for key, number in present.items():
            self.seen.setdefault(key, number)
            self.times.setdefault(key, now)
        return len(present)

    def close(self) -> None:
        """Leave the database."""
        if self._database is not None:
            self._database.dispose()


def labels(database: Database) -> dict[str, int]:
    """Hash of every labelled structure, and the number of its (newest) label row."""
    query = select(Structure.hash, LabelRow.id).join(LabelRow, LabelRow.structure_id == Structure.id)
    with database.session() as session:
        return dict(session.execute(query.order_by(LabelRow.id)).tuples().all())


def entries(database: Database) -> dict[str, Entry]:
    """The label task of every structure that has one."""
    of_tasks = (
        select(Structure.hash, TaskRow.state, TaskRow.finished_at, TaskRow.last_error)
        .join(TaskRow, TaskRow.structure_id == Structure.id)
        .where(TaskRow.kind == TaskKind.LABEL.value)
        .order_by(TaskRow.id)
    )
    of_labels = select(Structure.hash).join(LabelRow, LabelRow.structure_id == Structure.id)
    with database.session() as session:
        tasks = session.execute(of_tasks).all()
        rows = list(session.scalars(of_labels))
    keys = [key for key, *_ in tasks]
    return {
        key: Entry(
            TaskState(state).value,
            None if finished is None else finished.timestamp(),
            rows.count(key),
            keys.count(key),
            error,
        )
        for key, state, finished, error in tasks
    }


def open_tasks(database: Database) -> int:
    """Tasks of any kind that somebody should still be working on; what waits for MLflow is not meant."""
    ended = (TaskState.DONE, TaskState.CANCELLED, TaskState.QUARANTINED)
    query = select(TaskRow.id).where(TaskRow.state.not_in(ended), TaskRow.kind != TaskKind.TRACK.value)
    with database.session() as session:
        return len(list(session.scalars(query)))


def trainings_again(database: Database) -> int:
    """Attempts of trainings beyond the first of each."""
    query = select(TaskRow.attempts).where(TaskRow.kind == TaskKind.TRAIN.value)
    with database.session() as session:
        return sum(max(0, attempts - 1) for attempts in session.scalars(query))

"""A campaign's run directory: where its database and its MLflow store are."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nearedge.site import DATABASE, runs_folder
from nearedge_db.database import DATABASE_FILE, Database, url_of_run
from nearedge_db.errors import UserError
from nearedge_db.redaction import without_password

RECORD_FILE = "campaign.json"
MLFLOW_FILE = "mlflow.db"


def mlflow_uri_of_run(run_dir: Path) -> str:
    """Tracking URI of the MLflow store inside a run directory."""
    return f"sqlite:///{run_dir.absolute() / MLFLOW_FILE}"


@dataclass(frozen=True)
class RunDir:
    """A run directory, read through ``campaign.json`` where the campaign wrote one.

    >>> RunDir(Path("runs/quickstart")).database_url     # doctest: +SKIP
    'sqlite:////home/me/runs/quickstart/nearedge.db'
    """

    path: Path

    @classmethod
    def of(cls, campaign: str, directory: Path | None = None) -> "RunDir":
        """The directory given, or that of the campaign in ``NEAREDGE_RUNS`` or ``runs``."""
        return cls(directory or runs_folder() / campaign)

    @property
    def exists(self) -> bool:
        """Whether a campaign has left anything here."""
        return (self.path / RECORD_FILE).is_file() or (self.path / DATABASE_FILE).is_file()

    @property
    def files(self) -> list[Path]:
        """What a campaign would be lost without: no command may write its results there."""
        return [self.path / name for name in (DATABASE_FILE, MLFLOW_FILE, RECORD_FILE)]

    def write(self, name: str, database: str | None = None, mlflow: str | None = None) -> None:
        """Write ``campaign.json``; None stands for the default inside this directory, which may then move."""
        text = json.dumps({"name": name, "database": database, "mlflow": mlflow}, indent=1)
        partial = self.path / f".{RECORD_FILE}"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.path / RECORD_FILE)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What ``campaign.json`` says; empty where only a database is.

        Raises UserError when there is neither, or the record is damaged.
        """
        path = self.path / RECORD_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self.exists:
                return {}
            raise UserError(
                "there is no campaign here", got=self.path, fix="give its run directory with --dir"
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(
                "the campaign's record is damaged", got=f"{path} ({error})", fix="mend it"
            ) from None
        if not isinstance(record, dict):
            raise UserError("the campaign's record is damaged", got=f"{path}: no mapping", fix="mend it")
        return record

    def check_owner(self, name: str) -> None:
        """Raises UserError when another campaign's results and models are here: they would be overwritten."""
        owner = self.record.get("name") if self.exists else None
        if owner not in {None, name}:
            raise UserError(
                "this run directory belongs to another campaign",
                got=f"{self.path} of {owner!r}, not {name!r}",
                fix="choose another --dir, or the name as it was",
            )

    def check_database(self, database: str | None) -> None:
        """Raises UserError when the campaign here keeps its state in another database: it would begin anew there."""
        if not self.exists or "database" not in self.record:
            return
        if _shown(self.record["database"]) == _shown(database):
            return  # a password may change
        raise UserError(
            "the campaign in this run directory has another database",
            got=f"{_shown(database)}, it has {_shown(self.record['database'])}",
            fix=f"set `database` or {DATABASE} as it was, or choose another --dir; "
            f"if the database has moved, write where it is now into {self.path / RECORD_FILE}",
        )

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the database. Raises UserError when there is no campaign here."""
        return self.record.get("database") or url_of_run(self.path)

    @property
    def mlflow_uri(self) -> str:
        """MLflow tracking URI. Raises UserError when there is no campaign here."""
        return self.record.get("mlflow") or mlflow_uri_of_run(self.path)

    @property
    def campaign_name(self) -> str:
        """Name of the campaign: the recorded one, or the only one in the database.

        Raises UserError when the database holds none or several and nothing says which is meant.
        """
        name = self.record.get("name")
        return name if isinstance(name, str) else _only_campaign(self)

    def open_database(self) -> Database:
        """Open the database. Raises UserError when it is not there or cannot be used."""
        return Database.open(self.database_url, create=False)


def _shown(database: str | None) -> str:
    return "the SQLite file in it" if database is None else without_password(database)


def _only_campaign(run_dir: RunDir) -> str:
    from nearedge.summary import campaign_names

    database = run_dir.open_database()
    try:
        names = campaign_names(database)
    finally:
        database.dispose()
    if len(names) != 1:
        raise UserError(
            "the database does not hold exactly one campaign",
            got=", ".join(names) or f"none in {run_dir.path}",
            fix="name the campaign",
        )
    return names[0]


def find_runs(root: Path | None = None) -> list[RunDir]:
    """Every run directory directly under ``root``, by name; by default the folder of all runs."""
    root = root or runs_folder()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [run_dir for run_dir in map(RunDir, folders) if run_dir.exists]


@contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Hold the run directory: a second driver would spend the budget twice. A killed process holds it no longer.

    Raises UserError when another process holds it.
    """
    with (folder / ".driver.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another process is running a campaign in this directory",
                got=folder,
                fix="wait for it, stop it with `nearedge stop`, or choose another --dir",
            ) from None
        yield

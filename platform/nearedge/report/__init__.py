"""What a campaign found, as one self-contained page and as one picture."""

from pathlib import Path

from nearedge_db.database import Database
from nearedge_db.errors import UserError

__all__ = ["write_png", "write_report"]


def write_report(database: Database, campaign: str, path: Path) -> Path:
    """Write the HTML report of a campaign, finished or not; returns ``path``.

    Raises UserError when there is no such campaign or the folder of ``path`` does not exist.
    """
    from nearedge.report.data import read_report
    from nearedge.report.page import render

    _check_folder(path)
    text = render(read_report(database, campaign))
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def write_png(database: Database, campaign: str, path: Path) -> Path:
    """Draw spectra, progress and recovered properties into one picture; returns ``path``.

    Raises UserError when there is no such campaign or the folder of ``path`` does not exist.
    """
    from nearedge.report.data import read_report
    from nearedge.report.picture import draw

    _check_folder(path)
    draw(read_report(database, campaign), path)
    return path


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise UserError("the folder of the report does not exist", got=path.parent, fix="create it first")

"""What a campaign found, as one self-contained page and as one picture."""

from pathlib import Path

from nearedge_db.database import Database
from nearedge_db.errors import UserError
from nearedge_services.files import replacing

__all__ = ["write_png", "write_report"]


def write_report(database: Database, campaign: str, path: Path) -> Path:
    """Write the HTML report of a campaign, finished or not; returns ``path``.

    Raises UserError when there is no such campaign or the folder of ``path`` does not exist.
    """
    from nearedge.report.data import read_report
    from nearedge.report.page import render

    _check_folder(path)
    text = render(read_report(database, campaign))
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def write_png(database: Database, campaign: str, path: Path) -> Path:
    """Draw spectra, progress and recovered properties into one picture; returns ``path``.

    Raises UserError when there is no such campaign or the folder of ``path`` does not exist.
    """
    from nearedge.report.data import read_report
    from nearedge.report.picture import draw

    _check_folder(path)
    data = read_report(database, campaign)
    with replacing(path) as partial:
        draw(data, partial)
    return path


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise UserError("the folder of the report does not exist", got=path.parent, fix="create it first")

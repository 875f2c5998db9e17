"""Files that are replaced whole."""

import os
import stat

import pytest

from nearedge_services.files import replacing


def test_a_file_takes_its_place_at_the_end(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    path.chmod(0o640)
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.suffix == ".csv"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_what_breaks_leaves_the_old_one(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")

    def broken():
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_links_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    with replacing(link) as partial:
        partial.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_device_is_written_to_as_it_is():
    with replacing(os.devnull) as partial:
        assert str(partial) == os.devnull
        partial.write_text("gone")


def test_what_a_shell_leads_into_a_file_is_not_replaced():
    with replacing("/dev/stdout") as partial:
        assert str(partial) == "/dev/stdout"

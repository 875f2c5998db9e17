"""Complete frames of a file that was being written."""

import pytest

from nearedge_db.errors import UserError
from nearedge_services.structures.frames import complete_frames, cut_off_rest, find_frames

ONE = b"1\nnote=a\nC 0 0 0\n"
TWO = b"2\nnote=b\nC 0 0 0\nC 1 1 1\n"


def test_every_cut_leaves_the_frames_before_it():
    content = ONE + TWO + ONE
    ends = [0, len(ONE), len(ONE + TWO), len(content)]
    for length in range(len(content) + 1):
        frames = find_frames(content[:length])
        assert frames.size == max(end for end in ends if end <= length)
        assert (frames.fault is None) == (length in ends)
    assert [frame.comment for frame in find_frames(content).complete] == ["note=a", "note=b", "note=a"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (ONE + b"two\n", "line 4 is 'two' instead of a number of atoms"),
        (ONE + TWO[:-9], "it ends after 1 of 2 atoms"),
        (ONE + b"3\n", "it ends after 0 of 3 atoms"),
        (ONE + TWO[:-1], "its last line is not complete"),
        (ONE + b"\n" + TWO, "line 4 is empty, and others follow"),
    ],
)
def test_what_is_wrong_behind_them(content, fault):
    assert find_frames(content).fault == fault


def test_the_rest_is_cut_off(tmp_path):
    path = tmp_path / "a.extxyz"
    path.write_bytes(ONE + TWO[:-3])
    cut_off_rest(path, complete_frames(path))
    assert path.read_bytes() == ONE


@pytest.mark.parametrize(
    "content",
    [ONE + b"\n" + TWO + TWO, ONE + TWO.replace(b"2", b"12", 1) + ONE + TWO, ONE + b"x" + TWO + ONE],
)
def test_damage_before_complete_frames_is_refused_and_nothing_is_cut(tmp_path, content):
    path = tmp_path / "a.extxyz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="something else in it, or half a structure"):
        complete_frames(path)
    assert path.read_bytes() == content


def test_a_file_of_something_else_is_refused_and_an_empty_one_taken(tmp_path):
    path = tmp_path / "a.extxyz"
    for content in (b"notes\n", ONE[:-2], b"\n\n", b"4"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="something else in it, or half a structure"):
            complete_frames(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    assert not complete_frames(path).complete
    assert not complete_frames(tmp_path / "none.extxyz").complete

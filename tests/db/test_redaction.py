"""Passwords in what is shown."""

import pytest

from nearedge_db.redaction import without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/name", "postgresql://me:***@host/name"),
        ("url: http://me:se:cr@et@host:5000/x", "url: http://me:***@host:5000/x"),
        ("a://u:p@h and b://v:q@i", "a://u:***@h and b://v:***@i"),
        ("postgresql://me@host/name", "postgresql://me@host/name"),
        ("http://host:5000/me@home", "http://host:5000/me@home"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_only_passwords_are_left_out(text, shown):
    assert without_password(text) == shown

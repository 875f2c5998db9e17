"""Passwords in URLs are not for showing."""

import re

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]*@")


def without_password(text: str) -> str:
    """The text with the password of every URL in it as ``***``.

    >>> without_password("postgresql://user:secret@host/name")
    'postgresql://user:***@host/name'
    """
    return _PASSWORD.sub(r"\1***@", text)

"""The one exception that a user caused and can mend, and any other in one line."""

_LONGEST_LINE = 300


class UserError(Exception):
    """Bad input: says what is wrong, what was given and how to fix it, in one line.

    The command line prints it as ``error: what; got …; fix`` and exits with status 2.
    """

    def __init__(self, what: str, *, got: object = None, fix: str = "") -> None:
        self.what = what
        self.got = got
        self.fix = fix
        parts = [what] + ([f"got {got}"] if got is not None else []) + ([fix] if fix else [])
        super().__init__("; ".join(" ".join(part.split()) for part in parts))

    def __reduce__(self) -> tuple:
        """Rebuild with all three parts where the error crosses a process border."""
        return (_rebuild, (self.what, self.got, self.fix))


def _rebuild(what: str, got: object, fix: str) -> UserError:
    return UserError(what, got=got, fix=fix)


def one_line(error: BaseException | str) -> str:
    """The first line of an error that says something, at most 300 characters of it.

    >>> one_line("(sqlite3.OperationalError) database is locked\n[SQL: SELECT …]")
    '(sqlite3.OperationalError) database is locked'
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST_LINE else text[: _LONGEST_LINE - 1] + "…"

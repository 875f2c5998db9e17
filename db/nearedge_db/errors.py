"""The one exception that a user caused and can mend."""


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

"""What can go wrong in an oracle calculation, and whether trying again can help."""

from typing import ClassVar


class OracleError(Exception):
    """A calculation gave no label.

    Attributes:
        reason: one line saying why, fit to be kept in the ledger.
        retryable: True where the same structure may succeed another time or with safer settings.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)

    def __reduce__(self) -> tuple:
        """Rebuild from the reason where the error crosses a process border."""
        return (type(self), (self.reason,))


class NotConverged(OracleError):  # noqa: N818 - named after the outcome, as the ledger shows it
    """The self-consistent field did not converge: safer settings may help."""

    retryable: ClassVar[bool] = True


class BadGeometry(OracleError):  # noqa: N818
    """The structure itself is at fault (overlapping atoms, non-finite or absurd results): never retried."""

    retryable: ClassVar[bool] = False


class OracleCrash(OracleError):  # noqa: N818
    """The program died or failed for a reason that has nothing to do with the structure as far as is
    known.
    """

    retryable: ClassVar[bool] = True


class OracleTimeout(OracleError):  # noqa: N818
    """The calculation took longer than allowed and was ended."""

    retryable: ClassVar[bool] = True


class OutOfMemory(OracleError):  # noqa: N818
    """The calculation needed more memory than it may have: fewer at a time, or another machine, may help."""

    retryable: ClassVar[bool] = True


class OracleCancelled(OracleError):  # noqa: N818
    """The calculation was ended because nobody wants its result any more; it says nothing about the structure."""

    retryable: ClassVar[bool] = True


class MissingData(OracleError):  # noqa: N818
    """Something it needs is not on this machine (a program, a pseudopotential, a data set): the same try fails
    again until somebody installs it.
    """

    retryable: ClassVar[bool] = False

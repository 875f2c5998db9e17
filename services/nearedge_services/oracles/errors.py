"""What can go wrong in an oracle calculation, and whether trying again can help."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar

from nearedge_db.errors import UserError


class FailureKind(StrEnum):
    """Why a calculation gave no label; decides how it is tried again (`nearedge_services.oracles.ladder`)."""

    NOT_CONVERGED = "not converged"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timeout"
    CRASH = "crash"
    BAD_GEOMETRY = "bad geometry"
    MISSING_DATA = "missing data"
    UNFIT_SETTINGS = "unfit settings"
    CANCELLED = "cancelled"


class OracleError(Exception):
    """A calculation gave no label.

    Attributes:
        reason: one line saying why, fit to be kept in the ledger.
        kind: what went wrong.
        retryable: True where the same structure may succeed another time or with safer settings.
    """

    kind: ClassVar[FailureKind] = FailureKind.CRASH
    retryable: ClassVar[bool] = False

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)

    def add(self, words: str) -> None:
        """Say more at the end of the reason."""
        self.reason = f"{self.reason}; {words}"
        self.args = (self.reason,)

    def __reduce__(self) -> tuple:
        """Rebuild from the reason where the error crosses a process border."""
        return (type(self), (self.reason,))


class NotConverged(OracleError):  # noqa: N818 - named after the outcome, as the ledger shows it
    """The self-consistent field did not converge: safer settings may help."""

    kind: ClassVar[FailureKind] = FailureKind.NOT_CONVERGED
    retryable: ClassVar[bool] = True


class BadGeometry(OracleError):  # noqa: N818
    """The structure itself is at fault (overlapping atoms, absurd forces): never retried."""

    kind: ClassVar[FailureKind] = FailureKind.BAD_GEOMETRY
    retryable: ClassVar[bool] = False


class OracleCrash(OracleError):  # noqa: N818
    """The program died or failed for a reason that has nothing to do with the structure as far as is
    known.
    """

    kind: ClassVar[FailureKind] = FailureKind.CRASH
    retryable: ClassVar[bool] = True


class NotFinite(OracleCrash):
    """A result is not a number: a program's accident, as far as is known, and gone the next time."""


class OracleTimeout(OracleError):  # noqa: N818
    """The calculation took longer than allowed and was ended."""

    kind: ClassVar[FailureKind] = FailureKind.TIMEOUT
    retryable: ClassVar[bool] = True


class OutOfMemory(OracleError):  # noqa: N818
    """The calculation needed more memory than it may have: fewer at a time, or another machine, may help."""

    kind: ClassVar[FailureKind] = FailureKind.OUT_OF_MEMORY
    retryable: ClassVar[bool] = True


class OracleCancelled(OracleError):  # noqa: N818
    """The calculation was ended because nobody wants its result any more; it says nothing about the structure."""

    kind: ClassVar[FailureKind] = FailureKind.CANCELLED
    retryable: ClassVar[bool] = True


class MissingData(OracleError):  # noqa: N818
    """Something it needs is not on this machine (a program, a pseudopotential, a data set), or is another there: the
    same try may succeed on another machine, or once somebody has installed it.
    """

    kind: ClassVar[FailureKind] = FailureKind.MISSING_DATA
    retryable: ClassVar[bool] = True


class UnfitSettings(OracleError):  # noqa: N818
    """The settings do not fit this structure, which only its calculation shows: the same try fails again until
    somebody changes them. Others may succeed, so it ends no campaign.
    """

    kind: ClassVar[FailureKind] = FailureKind.UNFIT_SETTINGS
    retryable: ClassVar[bool] = False


class NotInstalled(UserError):  # noqa: N818
    """A program or a file of it is not on this machine: told to the user before work begins, MissingData within it."""


@contextmanager
def classified() -> Iterator[None]:
    """Make an OracleError of whatever a calculation raises inside: what nobody foresaw is a crash, with its text.

    A UserError says what is wrong with one structure and these settings: the others are still to be tried.
    """
    try:
        yield
    except OracleError:
        raise
    except NotInstalled as error:
        raise MissingData(str(error)) from error
    except UserError as error:
        raise UnfitSettings(str(error)) from error
    except MemoryError as error:
        raise OutOfMemory(f"MemoryError: {error}") from error
    except Exception as error:
        raise OracleCrash(f"{type(error).__name__}: {error}") from error

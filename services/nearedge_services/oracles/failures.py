"""Why a program failed, as far as its exit status, its last words or the system say."""

import errno
import re
import signal

from nearedge_services.oracles.errors import MissingData, OracleCrash, OracleError, OutOfMemory

_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit statuses of a process killed by SIGKILL, and of a shell or an MPI launcher whose process was."""
_NOT_FOUND = (126, 127)
"""What a shell, a launcher and the dynamic linker end with where there is no such program or library."""

_SHORT_OF_MEMORY = re.compile(
    r"MemoryError|bad_alloc|(cannot|unable to|error) allocat"
    r"|(out of|not enough|insufficient virtual) memory|oom[ _-]?kill"  # Slurm's are among these
    r"|killed by signal: 9\b|signal 9 \(killed\)|killed \(signal 9\)|exit code: (9|137)\b",  # of MPI launchers
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"ModuleNotFoundError|error while loading shared libraries"
    r"|unable to find the specified executable|execvp error on file|execve\(\): ",  # Open MPI, MPICH, Slurm
    re.IGNORECASE,
)


def short_of_memory(said: str) -> bool:
    """Whether these words of a program are about memory that it did not get."""
    return _SHORT_OF_MEMORY.search(said) is not None


def of_end(status: int, said: str) -> type[OracleError]:
    """Of a program that ended with that status, not zero, and these last words.

    SIGKILL from outside is what the kernel does when memory is short; a kill of our own never comes here.
    """
    if status in _KILLED or short_of_memory(said):
        return OutOfMemory
    return MissingData if status in _NOT_FOUND or _MISSING.search(said) else OracleCrash


def of_start(number: int, its_own: bool) -> type[OracleError]:
    """Of a program that the system did not start, with that errno; ``its_own``: the program's file is what it names."""
    if its_own and number in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
        return MissingData
    return OutOfMemory if number == errno.ENOMEM else OracleCrash

"""Which process this is, and whether another one on this machine has ended."""

import hashlib
import os
import socket
from pathlib import Path

_PROC = Path("/proc")


def this_host() -> str:
    """Name of this machine and, where ``/proc`` tells, of this boot and process namespace.

    Process numbers mean the same only where the whole name is the same: two containers may share a host name.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii")
        namespace = (_PROC / "self/ns/pid").readlink()
        scope = hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:12]
    except OSError:
        scope = ""
    return f"{socket.gethostname()[:200]}/{scope}"


def host_name(host: str) -> str:
    """The part of :func:`this_host` that people know."""
    return host.rpartition("/")[0] or host


def birth_of(pid: int) -> str:
    """When a process of this machine began, in the kernel's ticks since the boot; empty where nobody tells."""
    stat = _stat(pid)
    return "" if stat is None else stat[1]


def has_ended(pid: int, birth: str) -> bool:
    """Whether a process of this machine that began at ``birth`` is surely no more.

    One that only waits for its parent to take notice has ended; so has one whose number another process has now.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's: it lives
    stat = _stat(pid)
    return stat is not None and (stat[0] in ("Z", "X") or (birth != "" and stat[1] != birth))


def life_of_this_process(mark: str) -> str:
    """A name for this life of this process, from which :func:`has_died_here` can tell whether it has ended.

    ``mark`` is kept in it: something by which others know the process.
    """
    return f"{_scope()}|{os.getpid()}|{birth_of(os.getpid())}|{mark}"


def has_died_here(life: str) -> bool:
    """Whether the process that was given this name ran on this machine and is surely no more."""
    host, _, rest = life.partition("|")
    pid, _, rest = rest.partition("|")
    if host != _scope() or not pid.isdigit():
        return False
    return has_ended(int(pid), rest.partition("|")[0])


def _scope() -> str:
    """The end of :func:`this_host`, which tells machines apart, short enough for a name of 255 characters."""
    return this_host()[-100:]


def _stat(pid: int) -> tuple[str, str] | None:
    """State and start time; None where ``/proc`` is missing or hides the process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # the name, in parentheses, may hold anything; the state comes next, the start time nineteen fields later
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]

"""External programs for oracles: each in a private scratch folder, with limits, and never left behind.

    with Session("gpaw") as session:
        ran = session.run(["pw.x", "-in", "pw.in"], Limits(seconds=3600, memory_gib=8))
        ran.check()
        text = ran.stdout.read_text()

A helper process (`keeper.py`) starts the command and watches it. When time or memory runs out, when the work is
cancelled, when an exception leaves the block, and also when this process is killed with ``kill -9``, everything that
the command has started is killed, and the scratch folder is removed.

Whoever calls an oracle can narrow the limits of all that it runs, and cancel it, from outside:

    with allowance(seconds=600, cancelled=lambda: lease.lost):
        oracle.label(atoms)
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

from nearedge_db.processes import birth_of, has_ended, this_host
from nearedge_services.oracles import failures
from nearedge_services.oracles.errors import (
    OracleCancelled,
    OracleCrash,
    OracleError,
    OracleTimeout,
    OutOfMemory,
)
from nearedge_services.oracles.leftovers import keep_output
from nearedge_services.oracles.memory import program_running

SCRATCH_VARIABLE = "NEAREDGE_SCRATCH"
"""Environment variable with the folder in which scratch folders are made; else the system's temporary one."""

_KEEPER = Path(__file__).with_name("keeper.py")
_TAIL_BYTES = 600
_LEAVING_S = 10.0
_LOOK_S = 0.5
_TAG = "NEAREDGE_SCRATCH_FOLDER"
_LOOKED_AT_BYTES = 4096
"""Of each output, for signs of why it failed: launchers have words of their own after those."""


@dataclass(frozen=True)
class Limits:
    """What one command may use; None: as much as it wants.

    Attributes:
        seconds: wall-clock time.
        memory_gib: resident memory of all its processes together, GiB; looked at twice a second.
        grace_s: how long a command that must end gets between SIGTERM and SIGKILL, for MPI launchers that have
            processes on other machines.
    """

    seconds: float | None = None
    memory_gib: float | None = None
    grace_s: float = 2.0


@dataclass(frozen=True)
class Ran:
    """A command that came to its end by itself.

    Attributes:
        command: its arguments.
        status: exit status; negative: the number of the signal that ended it.
        seconds: wall-clock time.
        cpu_seconds: processor time of all its processes.
        memory_gib: the most resident memory that was seen, GiB, of this command or one before it in the session.
        stdout: file with what it printed.
        stderr: file with what it complained about.
    """

    command: tuple[str, ...]
    status: int
    seconds: float
    cpu_seconds: float
    memory_gib: float
    stdout: Path
    stderr: Path

    def check(self) -> None:
        """Raise OracleCrash, or OutOfMemory or MissingData where it died of that, unless the exit status is zero."""
        if self.status == 0:
            return
        said = tail(self.stderr) or tail(self.stdout) or "it said nothing"
        how = f"exit status {self.status}" if self.status > 0 else f"ended by signal {-self.status}"
        reason = f"{Path(self.command[0]).name}: {how}: {said}"
        words = "\n".join(tail(path, _LOOKED_AT_BYTES) for path in (self.stdout, self.stderr))
        raise failures.of_end(self.status, words)(reason)


def tail(path: Path, most_bytes: int = _TAIL_BYTES) -> str:
    """The last words of a file, in one line; empty where there are none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most_bytes))
        return " ".join(file.read().decode("utf-8", errors="replace").split())


@dataclass(frozen=True)
class _Allowance:
    deadline: float | None = None
    memory_gib: float | None = None
    cancelled: Callable[[], bool] = lambda: False


_NO_LIMITS = _Allowance()
_allowance: ContextVar[_Allowance] = ContextVar("allowance", default=_NO_LIMITS)


@contextlib.contextmanager
def allowance(
    *,
    seconds: float | None = None,
    memory_gib: float | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[None]:
    """Limits for all commands that are run inside, together (time) and each (memory); the tighter one counts.

    ``cancelled`` is asked twice a second; once it says true, the command is ended and OracleCancelled raised. It holds
    in this thread.
    """
    outer = _allowance.get()
    deadline = None if seconds is None else time.monotonic() + seconds
    inner = _Allowance(
        _least(outer.deadline, deadline),
        _least(outer.memory_gib, memory_gib),
        outer.cancelled if cancelled is None else lambda: outer.cancelled() or cancelled(),
    )
    token = _allowance.set(inner)
    try:
        yield
    finally:
        _allowance.reset(token)


def allowed() -> tuple[float | None, float | None]:
    """What is left of the caller's `allowance`: seconds, and GiB of each command; None: no limit."""
    given = _allowance.get()
    return None if given.deadline is None else given.deadline - time.monotonic(), given.memory_gib


def check_allowance() -> None:
    """Raise OracleCancelled or OracleTimeout where the caller's `allowance` says so."""
    if _allowance.get().cancelled():
        raise OracleCancelled("cancelled")
    seconds, _ = allowed()
    if seconds is not None and seconds <= 0:
        raise OracleTimeout("the time that was allowed is over")


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


class Session:
    """A scratch folder, and commands run in it one after another.

    ``folder`` is there from `__enter__` to `__exit__`. Several threads may each have a session of their own.
    """

    folder: Path

    def __init__(self, name: str, root: Path | None = None) -> None:
        """``name`` becomes part of the folder's; ``root`` is where it is made (default: `scratch_root`)."""
        self._name = name
        self._root = root

    def __enter__(self) -> "Session":
        """Make the folder and start its keeper. Raises OSError where that is impossible."""
        root = self._root or scratch_root()
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        self.folder = Path(tempfile.mkdtemp(prefix=scratch_prefix(self._name), dir=root))
        try:
            self._keeper = _Keeper(self.folder)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs and remove the folder; where a program failed, what it wrote is kept elsewhere."""
        if isinstance(error, OracleError):
            keep_output(self.folder, self._name, error)
        self._keeper.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self,
        command: Sequence[str],
        limits: Limits | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        stdin: Path | None = None,
    ) -> Ran:
        """Run a command in the folder to its end; its output goes to files ``NAME.out`` and ``NAME.err`` there.

        ``environment`` is added to that of this process; ``stdin`` is a file, or else nothing.

        Raises OracleTimeout, OutOfMemory or OracleCancelled when it had to be ended, OracleCrash when its keeper was
        killed or it could not be started, MissingData when there is no such program. An exit status other than zero is
        for the caller to judge.
        """
        limits, allowed = limits or Limits(), _allowance.get()
        left = None if allowed.deadline is None else allowed.deadline - time.monotonic()
        seconds = _least(limits.seconds, left)
        memory_gib = _least(limits.memory_gib, allowed.memory_gib)
        program = Path(command[0]).name
        if seconds is not None and seconds <= 0:
            raise OracleTimeout(f"{program}: no time was left to start it")
        stdout, stderr = self.folder / f"{program}.out", self.folder / f"{program}.err"
        request = {
            "arguments": [str(argument) for argument in command],
            "environment": {**os.environ, **(environment or {}), _TAG: str(self.folder)},
            "folder": str(self.folder),
            "stdin": None if stdin is None else str(stdin),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "seconds": seconds,
            "memory_bytes": None if memory_gib is None else int(memory_gib * 2**30),
            "grace_s": limits.grace_s,
        }
        with program_running() as took:
            answer = self._keeper.ask(request, allowed.cancelled)
            if "failed" in answer:
                kind = failures.of_start(answer["errno"], answer["file"] == str(command[0]))
                raise kind(f"cannot start {command[0]}: {answer['failed']} ({answer['file']})")
            gib = answer["memory_bytes"] / 2**30
            took(gib)
        _raise_if_ended(program, answer, seconds, memory_gib)
        return Ran(
            tuple(command), answer["status"], answer["seconds"], answer["cpu_seconds"], gib, stdout, stderr
        )


def _raise_if_ended(
    program: str, answer: dict[str, Any], seconds: float | None, memory_gib: float | None
) -> None:
    gib = answer["memory_bytes"] / 2**30
    if answer["ended"] == "timeout":
        raise OracleTimeout(f"{program}: not finished after {seconds:g} s")
    if answer["ended"] == "memory":
        raise OutOfMemory(f"{program}: {gib:.2f} GiB are more than the {memory_gib:.2f} GiB it may have")
    if answer["ended"] == "cancelled":
        raise OracleCancelled(f"{program}: cancelled after {answer['seconds']:.0f} s")


def scratch_root() -> Path:
    """Where scratch folders are made: ``NEAREDGE_SCRATCH``, else the system's temporary folder."""
    return Path(os.environ.get(SCRATCH_VARIABLE) or tempfile.gettempdir())


def scratch_prefix(name: str) -> str:
    """How a temporary folder of this process is to be called, so that `sweep` removes what a killed one leaves."""
    return f"{_mark()}{os.getpid()}-{birth_of(os.getpid())}-{name}-"


def sweep_all() -> None:
    """`sweep` wherever processes of this machine leave such folders."""
    for root in {scratch_root(), Path(tempfile.gettempdir())}:
        sweep(root)


def sweep(root: Path) -> None:
    """Remove scratch folders whose owners, processes of this machine, have ended together with their keepers."""
    mark = _mark()
    for folder in root.glob(f"{mark}*"):
        pid, birth = folder.name.removeprefix(mark).split("-")[:2]
        if pid.isdigit() and birth and has_ended(int(pid), birth):
            shutil.rmtree(folder, ignore_errors=True)


def _mark() -> str:
    """How folders of this machine begin: the root may be on a file system that others share."""
    return f"nearedge-scratch-{this_host().rpartition('/')[2]}-"


class _Keeper:
    """The helper process of one session: see `keeper.py`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # by its path, and not as a module: in the helper nothing need be importable but psutil
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", str(_KEEPER), str(os.getpid()), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, _TAG: str(folder)},
            start_new_session=True,
        )
        self._rest = b""
        self._answer(lambda: False)

    def ask(self, request: dict[str, Any], cancelled: Callable[[], bool]) -> dict[str, Any]:
        """The answer to a request. Raises OracleCrash when the keeper ends without one."""
        self._send(request)
        return self._answer(cancelled)

    def close(self) -> None:
        """Let it end, with everything that it has started; by force where it does not."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        assert self._process.stdout is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        end, orderly = time.monotonic() + _LEAVING_S, False
        while _readable(self._process.stdout, end - time.monotonic()):
            read = os.read(self._process.stdout.fileno(), 1 << 12)
            if not read:
                break
            orderly = orderly or b"bye" in read
        if not orderly:
            self._kill_the_rest()
        self._process.stdout.close()
        self._process.wait()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise OracleCrash("the process that watches external programs was killed") from None

    def _answer(self, cancelled: Callable[[], bool]) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101
        asked = False
        while b"\n" not in self._rest:
            if _readable(self._process.stdout, _LOOK_S):
                read = os.read(self._process.stdout.fileno(), 1 << 16)
                if not read:
                    self._kill_the_rest()
                    raise OracleCrash("the process that watches external programs was killed")
                self._rest += read
            elif not asked and cancelled():
                asked = True
                self._send({"cancel": True})
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _kill_the_rest(self) -> None:
        """Kill what a keeper has left that was killed itself: all that inherited the name of its folder, and it."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get(_TAG) == str(self._folder):
                    process.kill()


def _readable(pipe: IO[bytes], wait_s: float) -> bool:
    """Whether something, or the end, can be read from it within the time."""
    poll = select.poll()  # select() fails for descriptors above 1023
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(max(0.0, wait_s) * 1000))

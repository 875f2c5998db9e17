"""Runs commands for `external.py` and cleans up after them, whatever happens to the process that asked.

It is a program of its own, between an oracle and the external commands it starts. It holds the scratch folder, and
ends, with everything that was started and the folder, as soon as its asker has ended, be it by ``kill -9``: then the
pipe on its standard input closes. Requests come in and answers go out as lines of JSON. Not to be imported: nothing of
NearEdge is needed to run it.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.05, 0.5
_ASKER_LOOK_S = 5.0


def main(asker: int, folder: str) -> None:
    """Serve until the asker closes the pipe or ends."""
    _step_aside()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who stops the asker stops us: through the pipe
    try:
        _serve(Asker(asker))
    except BrokenPipeError:
        pass  # nobody is there to be told
    finally:
        _end_all(grace_s=0)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(BrokenPipeError):
            _answer({"bye": True})


def _step_aside() -> None:
    """Go on in a child. A parent that kills its children as it ends, as Ray's workers do, kills an empty shell."""
    child = os.fork()
    if child:
        for descriptor in (0, 1):
            os.close(descriptor)
        with contextlib.suppress(KeyboardInterrupt):
            os.waitpid(child, 0)
        os._exit(0)


class Asker:
    """The process that wants things done."""

    def __init__(self, pid: int) -> None:
        self._rest = b""
        self._children = _ended_children()
        self._looked = time.monotonic()
        try:
            self._process: psutil.Process | None = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._process = None

    @property
    def gone(self) -> bool:
        """Whether it has ended. The pipe tells too, unless a copy of its end lives on somewhere."""
        if self._process is None:
            return True
        if time.monotonic() - self._looked < _ASKER_LOOK_S:
            return False
        self._looked = time.monotonic()
        try:
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def requests(self, wait_s: float) -> list[dict[str, Any]] | None:
        """What has come within the time, or before a child ended; None once the asker has gone."""
        ready, _, _ = select.select([0, self._children], [], [], wait_s)
        if self._children in ready:
            os.read(self._children, 1 << 10)
        if 0 in ready:
            read = os.read(0, 1 << 16)
            if not read:
                return None
            *lines, self._rest = (self._rest + read).split(b"\n")
            return [json.loads(line) for line in lines]
        return None if self.gone else []


def _ended_children() -> int:
    """A descriptor that can be read from when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def _serve(asker: Asker) -> None:
    _answer({"ready": os.getpid()})
    while (requests := asker.requests(_ASKER_LOOK_S)) is not None:
        for request in requests:
            if "arguments" in request:
                outcome = _run(request, asker)
                if outcome is None:
                    return
                _answer(outcome)


def _answer(words: dict[str, Any]) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def _run(request: dict[str, Any], asker: Asker) -> dict[str, Any] | None:
    """Run one command to its end, or to ours; None when the asker has gone."""
    started, cpu = time.monotonic(), _cpu_seconds()
    try:
        process = _start(request)
    except OSError as error:
        number = error.errno or 0
        return {"failed": os.strerror(number), "errno": number, "file": str(error.filename)}
    grace_s = float(request.get("grace_s", 0))
    watch = Watch(request.get("seconds"), request.get("memory_bytes"))
    ended: str | None = None
    for wait_s in _looks():
        requests = asker.requests(0 if process.poll() is not None else wait_s)
        if requests is None:
            _end_all(grace_s, first=process)
            return None
        if process.poll() is not None:
            break
        ended = "cancelled" if any("cancel" in one for one in requests) else watch.verdict()
        if ended is not None:
            break
    _end_all(grace_s=0 if ended is None else grace_s, first=process)
    seconds = time.monotonic() - started
    return {
        "status": process.wait(),
        "ended": ended,
        "seconds": seconds,
        "cpu_seconds": _cpu_seconds() - cpu,
        "memory_bytes": max(watch.most_bytes, _largest_process_bytes()),
    }


def _looks() -> Iterator[float]:
    """Times to wait between looks: short at first, for commands that end at once."""
    wait_s = _FIRST_LOOK_S
    while True:
        yield wait_s
        wait_s = min(2 * wait_s, _LONGEST_LOOK_S)


def _start(request: dict[str, Any]) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as files:
        stdin = files.enter_context(Path(request["stdin"] or os.devnull).open("rb"))
        stdout = files.enter_context(Path(request["stdout"]).open("wb"))
        stderr = files.enter_context(Path(request["stderr"]).open("wb"))
        return subprocess.Popen(  # noqa: S603 - what the settings of the oracle name
            request["arguments"],
            cwd=request["folder"],
            env=request["environment"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            preexec_fn=_prepared(os.getpid()),  # noqa: PLW1509 - this process has one thread
        )


def _prepared(keeper: int) -> Callable[[], None]:
    """For the command's process, before it begins: die with the keeper, and hear signals again."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:  # it died before it could be asked to be heard
                os._exit(1)

    return prepare


class Watch:
    """Time and memory of everything that was started."""

    def __init__(self, seconds: float | None, memory_bytes: int | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._memory_bytes = memory_bytes
        self.most_bytes = 0

    def verdict(self) -> str | None:
        """Why it must end, if it must."""
        self.most_bytes = max(self.most_bytes, sum(_resident_bytes(one) for one in _started()))
        if self._memory_bytes is not None and self.most_bytes > self._memory_bytes:
            return "memory"
        if self._end is not None and time.monotonic() > self._end:
            return "timeout"
        return None


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _largest_process_bytes() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale


def _started() -> list[psutil.Process]:
    """All that descends from here and runs; as the subreaper, we inherit what has lost its parent."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _end_all(grace_s: float, first: "subprocess.Popen[bytes] | None" = None) -> None:
    """End everything that was started: an MPI launcher gets a moment to end what it has on other machines."""
    deaf = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if first is not None and first.poll() is None and grace_s > 0 and not deaf:
        first.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            first.wait(grace_s)
    while left := _started():  # again, for what was started meanwhile
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.02)
    if first is not None:
        first.wait()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

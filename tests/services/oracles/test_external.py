"""External programs: limits hold, and nothing is left behind, whoever is killed."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tests.services.oracles.contract import assert_pickles

from nearedge_db.processes import this_host
from nearedge_services.oracles.errors import (
    MissingData,
    OracleCancelled,
    OracleCrash,
    OracleError,
    OracleTimeout,
    OutOfMemory,
)
from nearedge_services.oracles.external import SCRATCH_VARIABLE, Limits, Session, allowance, sweep, tail

# A command whose grandchild has left the process group, is deaf to SIGTERM, and bears a mark in its arguments.
TREE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=True)
open("started", "w").close()
time.sleep(60)
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if mark in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_for(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mark(scratch):
    name = f"mark-{scratch.name}-{os.getpid()}"
    yield name
    assert wait_for(lambda: not marked(name), 3.0), "a process was left behind"


def test_a_command_runs_in_the_folder_with_its_output_in_files(scratch):
    with Session("test") as session:
        (session.folder / "in").write_text("words")
        code = "import os, sys; print(sys.stdin.read(), os.environ['X']); print('bad', file=sys.stderr)"
        ran = session.run(python(code), environment={"X": "1"}, stdin=session.folder / "in")
        ran.check()
        assert ran.stdout.read_text() == "words 1\n"
        assert tail(ran.stderr) == "bad"
        assert ran.stdout.parent == session.folder
        assert 0 < ran.seconds < 5
        assert 0 < ran.cpu_seconds < 5
        assert 0.001 < ran.memory_gib < 1
        assert session.run(["true"]).status == 0


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("import sys; sys.exit('no such basis')", OracleCrash, "exit status 1: no such basis"),
        ("import os; os.kill(os.getpid(), 11)", OracleCrash, "ended by signal 11"),
        ("raise MemoryError", OutOfMemory, "MemoryError"),
        ("import os; os.kill(os.getpid(), 9)", OutOfMemory, "ended by signal 9"),
        ("import sys; sys.exit(137)", OutOfMemory, "exit status 137"),
        ("import no_such_module", MissingData, "No module named 'no_such_module'"),
        ("import sys; sys.exit(127)", MissingData, "exit status 127"),
        ("import sys; sys.exit('pw.x: error while loading shared libraries: libx.so')", MissingData, "libx"),
        (
            "import sys; sys.exit('execvp error on file pw.x (No such file or directory)')",
            MissingData,
            "pw.x",
        ),
        (
            "import sys; sys.exit('slurmstepd: error: Detected 1 oom_kill event in StepId=1.0')",
            OutOfMemory,
            "1.0",
        ),
        ("import sys; sys.exit('srun: error: node1: task 0: Out Of Memory')", OutOfMemory, "task 0"),
        ("import sys; sys.exit('process rank 0 exited on signal 9 (Killed).')", OutOfMemory, "rank 0"),
        ("import sys; print('=   EXIT CODE: 9'); sys.exit('other words')", OutOfMemory, "other words"),
        ("import sys; print('KILLED BY SIGNAL: 9 (Killed)'); sys.exit(2)", OutOfMemory, "SIGNAL"),
        (
            "import sys; sys.exit('Error allocating 123 bytes' + 2000 * ' ' + 'backtrace')",
            OutOfMemory,
            "back",
        ),
        ("import sys; print('=   EXIT CODE: 99'); sys.exit(99)", OracleCrash, "99"),
        ("import sys; sys.exit('Not enough space allocated for radial FFT')", OracleCrash, "radial"),
    ],
)
def test_a_failed_command_is_classified(scratch, code, error, words):
    with Session("test") as session, pytest.raises(error, match=words):
        session.run(python(code)).check()


def test_a_missing_program_is_missing_data(scratch):
    with Session("test") as session:
        with pytest.raises(MissingData, match=r"no-such-program.x: No such file") as caught:
            session.run(["no-such-program.x"])
        assert caught.value.retryable
        session.run(["true"]).check()


@pytest.mark.parametrize("text", ["no program", None])
def test_a_file_that_is_no_program_is_missing_data(scratch, tmp_path_factory, text):
    file = tmp_path_factory.mktemp("bin") / "pw.x"
    file.write_text(text or "#!/bin/sh\n")
    file.chmod(0o755 if text else 0o644)
    with Session("test") as session, pytest.raises(MissingData, match="cannot start"):
        session.run([str(file)])


def test_what_the_system_does_not_start_now_may_start_another_time(scratch, monkeypatch):
    with Session("test") as session:
        with pytest.raises(OracleCrash, match="cannot start true: Argument list too long"):
            session.run(["true", "x" * 2**18])
        for number, kind in (
            (errno.EAGAIN, OracleCrash),
            (errno.ENOSPC, OracleCrash),
            (errno.ENOMEM, OutOfMemory),
        ):
            answer = {"failed": os.strerror(number), "errno": number, "file": "None"}
            monkeypatch.setattr(session._keeper, "ask", lambda *_, answer=answer: answer)
            with pytest.raises(kind, match=os.strerror(number)) as caught:
                session.run(["true"])
            assert caught.value.retryable


def test_a_folder_that_is_gone_is_no_missing_program(scratch):
    with Session("test") as session:
        session.folder.rmdir()
        with pytest.raises(OracleCrash, match=r"true\.out"):
            session.run(["true"])


def test_time_runs_out_and_the_whole_tree_ends(mark):
    with Session("test") as session:
        with pytest.raises(OracleTimeout, match=r"not finished after 1\.5 s"):
            session.run(python(TREE, mark), Limits(seconds=1.5, grace_s=0.1))
        assert (session.folder / "started").exists()
        assert not marked(mark)


def test_memory_of_the_tree_is_watched(mark):
    hungry = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = b\"1\" * 2**28; {'{}'}'])"
    sleeping = hungry.format("import time; time.sleep(60)")
    with Session("test") as session, pytest.raises(OutOfMemory, match=r"more than the 0\.15 GiB"):
        session.run(python(sleeping, mark), Limits(seconds=20, memory_gib=0.15, grace_s=0.1))


def test_cancelled_from_another_thread(mark):
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    with Session("test") as session, allowance(cancelled=cancel.is_set):
        with pytest.raises(OracleCancelled):
            session.run(python(TREE, mark), Limits(grace_s=0.1))
        assert not marked(mark)


def test_an_allowance_is_for_all_commands_together_and_the_tighter_counts(scratch):
    with Session("test") as session:
        with allowance(seconds=0.4), allowance(seconds=100):
            session.run(python("import time; time.sleep(0.2)")).check()
            with pytest.raises(OracleTimeout):
                session.run(["sleep", "30"], Limits(seconds=20))
            with pytest.raises(OracleTimeout, match="no time was left"):
                session.run(["true"])
        session.run(["true"]).check()


def test_an_exception_in_the_block_removes_the_scratch_folder(scratch):
    with pytest.raises(OracleCrash), Session("test") as session:  # noqa: PT012
        (session.folder / "wave").mkdir()
        (session.folder / "wave" / "functions").write_text("x")
        raise OracleCrash("parsing")
    assert not session.folder.exists()


def test_a_process_that_outlives_its_command_ends_with_it(mark):
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{mark}'])"
    with Session("test") as session:
        session.run(python(code)).check()
        assert not marked(mark)


def test_kill_9_of_the_asking_process_leaves_nothing(mark, scratch):
    program = (
        "from nearedge_services.oracles.external import Session\nimport sys\n"
        f"with Session('test') as session: session.run([sys.executable, '-c', {TREE!r}, {mark!r}])"
    )
    asking = subprocess.Popen(python(program))
    assert wait_for(lambda: any(scratch.glob("*/started")) and len(marked(mark)) == 2)
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    assert wait_for(lambda: not marked(mark) and not any(scratch.iterdir()))


def test_kill_9_of_the_asking_process_lets_a_launcher_end_what_it_has_elsewhere(scratch, tmp_path_factory):
    told = tmp_path_factory.mktemp("elsewhere") / "told"
    launcher = f"trap 'echo ended > {told}; exit' TERM; touch started; while :; do sleep 0.1; done"
    program = (
        "from nearedge_services.oracles.external import Session\n"
        f"with Session('test') as session: session.run(['sh', '-c', {launcher!r}])"
    )
    asking = subprocess.Popen(python(program))
    assert wait_for(lambda: any(scratch.glob("*/started")))
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    assert wait_for(lambda: told.exists() and not any(scratch.iterdir()))


def test_kill_9_of_the_keeper_is_a_crash_and_leaves_nothing(mark, scratch):
    def kill_the_keeper() -> None:
        assert wait_for(lambda: any(scratch.glob("*/started")) and len(marked(mark)) == 2)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # ended in the meantime
                if any(word.endswith("keeper.py") for word in process.cmdline()):
                    process.kill()

    killer = threading.Thread(target=kill_the_keeper)
    with Session("test") as session:
        killer.start()
        with pytest.raises(OracleCrash, match="was killed"):
            session.run(python(TREE, mark))
        killer.join()
        assert wait_for(lambda: not marked(mark), 2.0)


def test_folders_of_ended_processes_are_swept_and_others_are_kept(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = this_host().rpartition("/")[2]
    gone = tmp_path / f"nearedge-scratch-{here}-{ended.pid}-123-test-x"
    foreign = tmp_path / f"nearedge-scratch-elsewhere-{ended.pid}-123-test-x"
    for folder in (gone, foreign):
        folder.mkdir()
    with Session("test", tmp_path) as session:
        assert not gone.exists()
        assert foreign.exists()
        sweep(tmp_path)
        assert session.folder.exists()


@pytest.mark.parametrize("kind", [OracleCancelled, MissingData, OutOfMemory])
def test_errors_cross_process_borders(kind: type[OracleError]):
    assert_pickles(kind("a reason"))


def test_output_of_a_command_that_says_nothing(tmp_path: Path):
    assert tail(tmp_path / "none") == ""

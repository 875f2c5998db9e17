"""The oracle's own journal: nothing is lost or mixed, and whoever begins what another has is seen."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from nearedge.bench.chaos.journal import Journal

WRITER = "import sys; from pathlib import Path; from nearedge.bench.chaos.journal import Journal; "


def elsewhere(path, code, wait=False):
    """Begin a structure in another process, then do ``code``; with ``wait``, it lives until its input ends."""
    code = (
        f"{WRITER}journal = Journal(Path(sys.argv[1])); journal.begin('a'); {code}; print('done', flush=True)"
    )
    code += "; sys.stdin.read()" if wait else ""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "done\n"
    return process


def end(process):
    process.communicate()
    assert process.returncode == 0


def whats(journal):
    return [line.what for line in journal.read()]


def test_lines_of_many_writers_stay_whole(tmp_path):
    journal = Journal(tmp_path / "journal")
    notes = [f"{number} " * 50 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda note: journal.write("failed", "a", note), notes))
    assert sorted(line.note for line in journal.read()) == sorted(notes)


def test_nothing_was_done_yet(tmp_path):
    assert Journal(tmp_path / "journal").read() == []


def test_who_begins_what_a_living_process_has_is_seen(tmp_path):
    journal = Journal(tmp_path / "journal")
    other = elsewhere(journal.path, "pass", wait=True)
    journal.begin("a")
    journal.begin("b")
    end(other)
    assert whats(journal) == ["begun", "begun", "beside", "begun"]


def test_one_that_is_dead_or_has_failed_has_nothing(tmp_path):
    journal = Journal(tmp_path / "journal")
    end(elsewhere(journal.path, "pass"))
    failed = elsewhere(journal.path, "journal.write('failed', 'a')", wait=True)
    journal.begin("a")
    end(failed)
    assert whats(journal) == ["begun", "begun", "failed", "begun"]


def test_one_that_has_ended_it_may_be_storing_it(tmp_path):
    journal = Journal(tmp_path / "journal")
    other = elsewhere(journal.path, "journal.write('ended', 'a')", wait=True)
    journal.begin("a")
    end(other)
    assert whats(journal) == ["begun", "ended", "begun", "beside"]

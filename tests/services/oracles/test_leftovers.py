"""What programs that failed wrote: kept where the reason says, for failures that it can explain, and not for ever."""

import sys
import time
from pathlib import Path

import pytest

from nearedge_services.oracles import leftovers
from nearedge_services.oracles.errors import (
    BadGeometry,
    NotConverged,
    OracleCancelled,
    OracleCrash,
    OracleError,
    OracleTimeout,
    OutOfMemory,
)
from nearedge_services.oracles.external import SCRATCH_VARIABLE, Limits, Session
from nearedge_services.oracles.leftovers import KEPT_DAYS, MOST_KEPT, OUTPUT_IN, WORK_VARIABLE


@pytest.fixture
def failed(tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH_VARIABLE, str(tmp_path / "scratch"))
    monkeypatch.setenv(WORK_VARIABLE, str(tmp_path / "work"))
    yield tmp_path / "work" / "failed"
    assert list((tmp_path / "scratch").iterdir()) == []


def fail(error: OracleError) -> OracleError:
    """As a program does that has written a little."""
    with pytest.raises(type(error)) as caught, Session("test") as session:  # noqa: PT012
        (session.folder / "pw.out").write_text("iteration 1")
        raise error
    return caught.value


def test_output_of_a_program_that_crashed_is_kept_where_the_reason_says(failed):
    code = "import sys; print('iteration 1'); open('wave.dat', 'w').write('x'); sys.exit('no such basis')"
    with pytest.raises(OracleCrash) as caught, Session("pw") as session:  # noqa: PT012
        (session.folder / "pw.in").write_text("&control")
        session.run([sys.executable, "-c", code]).check()
    said, _, path = caught.value.reason.partition(f"; {OUTPUT_IN}")
    assert said.endswith("exit status 1: no such basis")
    assert str(caught.value) == caught.value.reason
    name = Path(sys.executable).name
    kept = {file.name: file.read_text() for file in Path(path).iterdir()}
    assert kept == {f"{name}.out": "iteration 1\n", f"{name}.err": "no such basis\n", "pw.in": "&control"}
    assert Path(path).parent == failed


def test_output_of_a_program_that_took_too_long_is_kept(failed):
    with pytest.raises(OracleTimeout, match=OUTPUT_IN), Session("pw") as session:
        session.run(["sh", "-c", "echo begun; sleep 60"], Limits(seconds=0.5, grace_s=0))
    assert [path.read_text() for path in failed.glob("*/sh.out")] == ["begun\n"]


@pytest.mark.parametrize("kind", [OracleCrash, NotConverged, OracleTimeout, OutOfMemory])
def test_a_failure_that_output_can_explain_has_it(failed, kind):
    assert fail(kind("why")).reason == f"why; {OUTPUT_IN}{next(failed.iterdir())}"


@pytest.mark.parametrize("kind", [OracleCancelled, BadGeometry])
def test_of_others_nothing_is_kept(failed, kind):
    assert fail(kind("why")).reason == "why"
    assert not failed.exists()


def test_of_programs_that_said_nothing_nothing_is_kept(failed):
    with pytest.raises(OracleCrash, match=r"it said nothing$"), Session("pw") as session:
        session.run(["false"]).check()
    assert not failed.exists()


def test_of_a_long_file_the_end_is_kept(failed):
    with pytest.raises(OracleCrash), Session("test") as session:  # noqa: PT012
        (session.folder / "pw.out").write_bytes(b"x" * 2**21 + b"end")
        raise OracleCrash("why")
    (kept,) = failed.glob("*/pw.out")
    assert kept.stat().st_size == 2**20
    assert kept.read_bytes().endswith(b"end")


def test_only_the_latest_are_kept_and_not_for_ever(failed):
    now, old = time.time(), (KEPT_DAYS + 1) * 86400
    names = [f"{leftovers._stamp(now - ago)}-test" for ago in (*range(MOST_KEPT + 1, 1, -1), old)]
    for name in names:
        (failed / name).mkdir(parents=True)
    fail(OracleCrash("new"))
    left = sorted(path.name for path in failed.iterdir())
    assert left[:-1] == names[1:-1], "all but the oldest of so many, and what is too old"
    assert len(left) == MOST_KEPT


def test_a_failure_is_told_though_its_output_cannot_be_kept(failed, caplog):
    failed.parent.mkdir()
    failed.write_text("no folder")
    assert fail(OracleCrash("why")).reason == "why"
    assert "not kept" in caplog.text

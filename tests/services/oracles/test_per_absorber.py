"""One absorber at a time: what is finished is kept, errors are passed on, workers are no more than asked."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from ase.build import bulk

from nearedge_db.errors import UserError
from nearedge_services.oracles.course import each_absorber
from nearedge_services.oracles.elsewhere import Ended, helped_by
from nearedge_services.oracles.errors import (
    MissingData,
    NotConverged,
    NotFinite,
    OracleCancelled,
    OracleCrash,
)
from nearedge_services.oracles.external import SCRATCH_VARIABLE, Session, allowance
from nearedge_services.oracles.leftovers import KEPT_DAYS
from nearedge_services.oracles.per_absorber import (
    Finished,
    RunSettings,
    asked_as,
    chosen_absorbers,
    installed_version,
    turns,
    until_stored,
)

ONE = RunSettings()


@pytest.fixture
def finished(tmp_path):
    return Finished(bulk("C", "diamond", 3.567), "ab" * 32, tmp_path)


def row_of(absorber: int):
    return {"xanes": np.full(3, float(absorber))}


def test_an_absorber_that_failed_is_done_again_and_no_other(finished):
    done = []

    def compute(absorber, broken=True):
        if absorber == 2 and broken:
            raise OracleCrash("killed")
        done.append(absorber)
        return row_of(absorber)

    with pytest.raises(OracleCrash, match="killed"):
        each_absorber([0, 1, 2, 3], compute, finished, ONE)
    assert done[:2] == [0, 1]
    done.clear()
    rows = each_absorber([0, 1, 2, 3], lambda one: compute(one, broken=False), finished, ONE)
    assert 2 in done
    assert not {0, 1} & set(done)
    assert {one: row["xanes"][0] for one, row in rows.items()} == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    finished.clear()
    assert not finished.folder.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_try_that_goes_on_knows_what_was_spent_before(tmp_path, workers):
    def slow(absorber):
        time.sleep(0.1)
        if absorber == 2:
            raise OracleCrash("killed")
        return row_of(absorber)

    atoms = bulk("C", "diamond", 3.567)
    first = Finished(atoms, "ab" * 32, tmp_path)
    first.once("ground", lambda: slow(0))
    with pytest.raises(OracleCrash):
        each_absorber([0, 1, 2], slow, first, ONE)
    assert first.reused_s == 0
    second = Finished(atoms, "ab" * 32, tmp_path)
    second.once("ground", lambda: pytest.fail("it is there"))
    each_absorber([0, 1, 2], row_of, second, RunSettings(workers=workers))
    assert second.reused_s == pytest.approx(0.1 + 0.2 / workers, abs=0.1)


def test_what_is_finished_is_kept_until_the_label_is_stored(finished):
    def label():
        finished.keep(0, row_of(0))
        finished.complete()

    label()
    assert not finished.folder.exists()
    with until_stored() as unstored:
        label()
    assert finished.folder.exists()
    unstored.clear()
    assert not finished.folder.exists()


def test_of_a_complete_label_that_is_no_good_nothing_is_kept(finished):
    """It would give the same again; of one that failed on the way the absorbers are good."""

    def label(is_complete):
        with until_stored():
            finished.keep(0, row_of(0))
            if is_complete:
                finished.complete()
            raise NotFinite("the spectra")

    for is_complete in (False, True):
        with pytest.raises(NotFinite):
            label(is_complete)
        assert finished.folder.exists() is not is_complete


def test_absorbers_that_follow_each_other():
    assert [turns(range(count), 4) for count in (0, 1, 4, 5, 9)] == [0, 1, 1, 2, 3]


def test_what_is_kept_belongs_to_structure_and_settings(tmp_path, finished):
    finished.keep(0, row_of(0))
    other = bulk("C", "diamond", 3.567)
    other.positions[0, 0] += 0.01
    assert Finished(bulk("C", "diamond", 3.567), "ab" * 32, tmp_path).load(0) is not None
    assert Finished(other, "ab" * 32, tmp_path).load(0) is None
    assert Finished(bulk("C", "diamond", 3.567), "cd" * 32, tmp_path).load(0) is None


def test_a_rung_goes_on_with_what_was_asked_for(tmp_path, finished):
    """And what was asked for with the settings of a rung is another label."""
    finished.keep(0, row_of(0))
    atoms, rung = bulk("C", "diamond", 3.567), "cd" * 32
    with asked_as("ab" * 32):
        assert Finished(atoms, rung, tmp_path).load(0) is not None
    assert Finished(atoms, rung, tmp_path).load(0) is None


def test_parts_of_two_versions_of_a_program_never_meet(tmp_path):
    def kept_by(version):
        return Finished(bulk("C", "diamond", 3.567), "ab" * 32, tmp_path, version=version)

    kept_by("25.1").keep(0, row_of(0))
    assert kept_by("25.1").load(0) is not None
    assert kept_by("25.7").load(0) is None


def test_a_program_that_has_gone_is_missing_data():
    with pytest.raises(MissingData, match="no-such-package is not installed"):
        installed_version("no-such-package")


def test_a_file_that_was_not_finished_is_not_a_result(finished):
    finished.keep(0, row_of(0))
    (finished.folder / "half.part").write_bytes(b"PK")
    assert finished.load("half") is None
    assert finished.load(1) is None


@pytest.mark.parametrize("left", [b"", b"PK", b"no archive", b"whole"])
def test_a_file_that_cannot_be_read_is_calculated_anew(finished, caplog, left):
    finished.keep(0, row_of(0))
    path = finished.folder / "0.npz"
    path.write_bytes(path.read_bytes()[:-9] if left == b"whole" else left)
    assert finished.load(0) is None
    assert "0.npz" in caplog.text
    assert finished.once(0, lambda: row_of(7))["xanes"][0] == 7
    assert finished.load(0) is not None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_kept(finished, value):
    def once(value):
        return finished.once("ground", lambda: {"energy_ev": np.array(1), "forces": np.array([0.0, value])})

    with pytest.raises(NotFinite, match="forces of ground"):
        once(value)
    assert not finished.folder.exists()
    assert once(2.0)["forces"][1] == 2


def test_a_helper_s_row_that_is_not_finite_is_the_label_s_failure(finished):
    lent = Lent(lambda one: Ended(one, row={"xanes": np.array([np.nan])}))
    with helped_by(lent), pytest.raises(NotFinite):
        each_absorber(range(4), slowly, finished, ONE)
    assert finished.load(0) is not None
    assert finished.load(3) is None


def test_what_nobody_went_on_with_is_removed(tmp_path, finished):
    old, new = (Finished(bulk("C", "diamond", 3.567), letter * 32, tmp_path) for letter in ("cd", "ef"))
    for one in (old, new):
        one.keep(0, row_of(0))
    long_ago = time.time() - (KEPT_DAYS + 1) * 86400
    os.utime(old.folder, (long_ago, long_ago))
    finished.keep(0, row_of(0))
    assert (old.load(0), new.load(0) is not None) == (None, True)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_at_a_time_than_workers(finished, workers):
    lock, now, most = threading.Lock(), [0], [0]

    def compute(absorber):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return row_of(absorber)

    each_absorber(range(6), compute, finished, RunSettings(workers=workers))
    assert most[0] == workers


def test_ctrl_c_ends_the_programs_that_are_running(finished, tmp_path, monkeypatch):
    """They are in sessions of their own, where no Ctrl-C of a terminal reaches them."""
    scratch = tmp_path / "scratch"
    monkeypatch.setenv(SCRATCH_VARIABLE, str(scratch))
    # a process that a shell began in the background ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def compute(absorber):
        with Session("test") as session:
            session.run(["sleep", "60"]).check()
        return row_of(absorber)

    def interrupt():
        while len(list(scratch.glob("*/sleep.out"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            each_absorber(range(3), compute, finished, RunSettings(workers=2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(scratch.iterdir()) == []
    assert not finished.folder.exists()


def test_absorbers_must_be_atoms_with_spectra():
    numbers, possible = np.array([6, 1, 6]), np.array([True, False, True])
    assert chosen_absorbers(numbers, possible, None) == [0, 2]
    assert chosen_absorbers(numbers, possible, (2, 2)) == [2]
    for wrong in (1, 3, -1):
        with pytest.raises(UserError, match="absorber"):
            chosen_absorbers(numbers, possible, (wrong,))


class Lent:
    """Helpers in this process, as good as those of a cluster; what they are given ends at the next look."""

    def __init__(self, outcomes):
        self.outcomes, self.begun, self.closed, self.wishes = outcomes, [], 0, []
        self._under_way = []

    def helpers(self, wish):
        self.wishes.append(wish)
        return self

    def offer(self, waiting):
        return min(1, waiting) - len(self._under_way)

    def begin(self, absorber):
        self.begun.append(absorber)
        self._under_way.append(absorber)

    def ended(self, wait_s):
        del wait_s
        ended = [self.outcomes(one) for one in self._under_way]
        self._under_way = [one for one, what in zip(self._under_way, ended, strict=True) if what is None]
        return [what for what in ended if what is not None]

    def close(self):
        self.closed += 1


def slowly(absorber: int):
    time.sleep(0.1)
    return row_of(absorber)


def test_absorbers_that_wait_are_given_to_helpers_from_the_back(finished):
    lent = Lent(lambda one: Ended(one, row={**row_of(one), "seconds": np.array(5.0)}))
    with helped_by(lent):
        rows = each_absorber(range(6), slowly, finished, ONE)
    assert lent.begun[0] == 5
    assert 0 not in lent.begun
    assert {one: row["xanes"][0] for one, row in rows.items()} == {one: float(one) for one in range(6)}
    assert all(finished.load(one) is not None for one in range(6)), "their rows are kept as well"
    assert finished.reused_s == pytest.approx(5.0 * len(lent.begun)), "what it would have taken by itself"
    assert lent.closed == 1


def test_helpers_are_not_asked_for_where_the_settings_say_so(finished):
    lent = Lent(lambda one: pytest.fail(f"{one} was given away"))
    with helped_by(lent):
        each_absorber(range(3), row_of, finished, RunSettings(elsewhere=0))
    assert lent.wishes == []


def test_what_a_helper_lost_is_calculated_nevertheless(finished):
    """Again by another one, and after the third time here, where it does no harm to others."""
    lent = Lent(Ended)
    with helped_by(lent):
        rows = each_absorber(range(3), slowly, finished, ONE)
    assert sorted(rows) == [0, 1, 2]
    assert max(lent.begun.count(one) for one in range(3)) <= 3


def test_a_machine_without_the_program_is_not_the_label_s_failure(finished):
    lent = Lent(lambda one: Ended(one, error=MissingData("no such program")))
    with helped_by(lent):
        assert sorted(each_absorber(range(3), slowly, finished, ONE)) == [0, 1, 2]


def test_an_error_of_a_helper_is_the_label_s_and_what_was_finished_is_kept(finished):
    lent = Lent(lambda one: Ended(one, error=NotConverged("potentials")))
    with helped_by(lent), pytest.raises(NotConverged, match="potentials"):
        each_absorber(range(4), slowly, finished, ONE)
    assert finished.load(0) is not None
    assert lent.closed == 1


def test_a_label_that_nobody_wants_any_more_does_not_wait_for_helpers(finished):
    wanted = threading.Event()
    wanted.set()
    lent = Lent(lambda _: wanted.clear())  # it never ends
    with (
        helped_by(lent),
        allowance(cancelled=lambda: not wanted.is_set()),
        pytest.raises(OracleCancelled),
    ):
        each_absorber(range(2), slowly, finished, ONE)
    assert lent.closed == 1


@pytest.mark.parametrize(
    ("wanted", "indices"),
    [(None, [0, 2, 3]), ((3, 0, 3), [0, 3]), (("C",), [0, 3]), (("Si", "C"), [0, 2, 3]), ((), [])],
)
def test_absorbers_are_chosen_by_index_or_element(wanted, indices):
    numbers, possible = np.array([6, 1, 14, 6]), np.array([True, False, True, True])
    assert chosen_absorbers(numbers, possible, wanted) == indices


@pytest.mark.parametrize(("wanted", "said"), [((1,), "H"), ((9,), "9"), (("H",), "choose of C, Si")])
def test_an_absorber_that_is_none_is_refused(wanted, said):
    with pytest.raises(UserError, match=said):
        chosen_absorbers(np.array([6, 1, 14, 6]), np.array([True, False, True, True]), wanted)


def test_of_a_list_of_elements_indices_say_nothing():
    numbers, possible = np.array([6, 14]), np.array([True, True])
    assert chosen_absorbers(numbers, possible, (40,), by_index=False) == [0, 1]
    assert chosen_absorbers(numbers, possible, ("C",), by_index=False) == [0]

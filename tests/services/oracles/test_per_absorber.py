"""One absorber at a time: what is finished is kept, errors are passed on, workers are no more than asked."""

import os
import threading
import time

import numpy as np
import pytest
from ase.build import bulk

from nearedge_db.errors import UserError
from nearedge_services.oracles.errors import OracleCrash
from nearedge_services.oracles.per_absorber import KEPT_DAYS, Finished, chosen_absorbers, each_absorber, turns


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
        each_absorber([0, 1, 2, 3], compute, finished, workers=1)
    assert done[:2] == [0, 1]
    done.clear()
    rows = each_absorber([0, 1, 2, 3], lambda one: compute(one, broken=False), finished, workers=1)
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
        each_absorber([0, 1, 2], slow, first, workers=1)
    assert first.reused_s == 0
    second = Finished(atoms, "ab" * 32, tmp_path)
    second.once("ground", lambda: pytest.fail("it is there"))
    each_absorber([0, 1, 2], row_of, second, workers=workers)
    assert second.reused_s == pytest.approx(0.1 + 0.2 / workers, abs=0.05)


def test_absorbers_that_follow_each_other():
    assert [turns(range(count), 4) for count in (0, 1, 4, 5, 9)] == [0, 1, 1, 2, 3]


def test_what_is_kept_belongs_to_structure_and_settings(tmp_path, finished):
    finished.keep(0, row_of(0))
    other = bulk("C", "diamond", 3.567)
    other.positions[0, 0] += 0.01
    assert Finished(bulk("C", "diamond", 3.567), "ab" * 32, tmp_path).load(0) is not None
    assert Finished(other, "ab" * 32, tmp_path).load(0) is None
    assert Finished(bulk("C", "diamond", 3.567), "cd" * 32, tmp_path).load(0) is None


def test_a_file_that_was_not_finished_is_not_a_result(finished):
    finished.keep(0, row_of(0))
    (finished.folder / "half.part").write_bytes(b"PK")
    assert finished.load("half") is None
    assert finished.load(1) is None


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

    each_absorber(range(6), compute, finished, workers)
    assert most[0] == workers


def test_absorbers_must_be_atoms_with_spectra():
    numbers, possible = np.array([6, 1, 6]), np.array([True, False, True])
    assert chosen_absorbers(numbers, possible, None) == [0, 2]
    assert chosen_absorbers(numbers, possible, (2, 2)) == [2]
    for wrong in (1, 3, -1):
        with pytest.raises(UserError, match="absorber"):
            chosen_absorbers(numbers, possible, (wrong,))

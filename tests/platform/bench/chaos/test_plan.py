"""What goes wrong follows from the seed, and each fault happens once."""

import pytest

from nearedge.bench.chaos.plan import FAULTS, LATEST_DELAY_S, VICTIMS, OraclePlan, faults_of_known, strikes

KEYS = [f"{number:064x}" for number in range(12)]


def plan(folder, **changes):
    return OraclePlan(**{"folder": str(folder), "seed": 3, "at": {}, "share": 0.0, "pause_s": 0.0, **changes})


def test_every_fault_hits_one_known_structure():
    chosen = faults_of_known(KEYS, 5)
    assert sorted(chosen.values()) == sorted(FAULTS)
    assert set(chosen) <= set(KEYS)
    assert chosen == faults_of_known(KEYS[::-1], 5)
    assert any(faults_of_known(KEYS, seed) != chosen for seed in range(6, 12))


def test_too_few_structures_for_the_faults():
    with pytest.raises(ValueError, match="3 structures for 4 kinds"):
        faults_of_known(KEYS[:3], 0)


def test_a_fault_happens_once_whoever_asks(tmp_path):
    one = plan(tmp_path, at={KEYS[0]: "hang"})
    other = plan(tmp_path, at={KEYS[0]: "hang"})
    assert one.take(KEYS[0]) == "hang"
    assert other.take(KEYS[0]) is None
    assert one.fault_of(KEYS[0]) == "hang"


def test_without_a_share_others_are_left_alone(tmp_path):
    assert [plan(tmp_path).take(key) for key in KEYS] == [None] * len(KEYS)


def test_a_share_of_the_others_fails_in_every_way(tmp_path):
    keys = [f"{number:064x}" for number in range(400)]
    found = [plan(tmp_path, share=0.25).fault_of(key) for key in keys]
    assert set(found) == {None, *FAULTS}
    assert 60 < sum(fault is not None for fault in found) < 140
    assert found == [plan(tmp_path, share=0.25).fault_of(key) for key in keys]
    assert found != [plan(tmp_path, share=0.25, seed=4).fault_of(key) for key in keys]


def test_a_plan_is_read_as_it_was_written(tmp_path):
    whole = plan(tmp_path, at={KEYS[1]: "crash"}, share=0.1, pause_s=0.5)
    whole.save(tmp_path / "plan.json")
    assert OraclePlan.load(tmp_path / "plan.json") == whole


def test_everybody_is_struck_once_within_the_campaign():
    drawn = strikes(VICTIMS, 2, 9, 1)
    assert sorted(strike.victim for strike in drawn) == sorted(VICTIMS)
    counts = [strike.after_labels for strike in drawn]
    assert counts == sorted(counts)
    assert all(2 <= count <= 9 for count in counts)
    assert all(0 <= strike.delay_s < LATEST_DELAY_S for strike in drawn)
    assert drawn == strikes(VICTIMS, 2, 9, 1)
    assert drawn != strikes(VICTIMS, 2, 9, 2)

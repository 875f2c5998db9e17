"""Seeds and draws that depend on the campaign's seed alone."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from nearedge.chance import is_held_out, seed_for, stratified


def test_seeds_are_whole_numbers_below_two_to_the_31():
    seeds = [seed_for(7, "seed", index) for index in range(2000)]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


def test_a_seed_depends_on_campaign_and_purpose():
    assert len({seed_for(0, "a"), seed_for(1, "a"), seed_for(0, "b"), seed_for(0, "a", 1)}) == 4


def test_a_seed_is_the_same_in_another_process():
    code = "from nearedge.chance import seed_for; print(seed_for(3, 'guided', 12))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == seed_for(3, "guided", 12)


@pytest.mark.parametrize("fraction", [0.1, 0.17, 0.4])
def test_about_the_asked_share_is_held_out(fraction):
    hashes = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(4000)]
    share = np.mean([is_held_out(key, fraction) for key in hashes])
    assert share == pytest.approx(fraction, abs=4 * np.sqrt(fraction * (1 - fraction) / 4000))


def test_what_is_held_out_stays_held_out_at_a_larger_share():
    hashes = [hashlib.sha256(str(index).encode()).hexdigest() for index in range(500)]
    small = {key for key in hashes if is_held_out(key, 0.1)}
    large = {key for key in hashes if is_held_out(key, 0.3)}
    assert small < large


@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_stratified_draws_one_number_in_each_part(count):
    draws = stratified(count, 5, "density")
    assert len(draws) == count
    assert all(0 <= draw < 1 for draw in draws)
    assert sorted(int(draw * count) for draw in draws) == list(range(count))


def test_stratified_is_reproducible_and_in_random_order():
    draws = stratified(24, 5, "density")
    assert draws == stratified(24, 5, "density")
    assert draws != stratified(24, 6, "density")
    assert draws != stratified(24, 5, "other")
    assert draws != sorted(draws)
    # Every n-th is held out: that must not be the low or the high end.
    assert np.ptp(draws[5::6]) > 0.3


def test_stratified_of_none_is_empty():
    assert stratified(0, 5, "density") == []

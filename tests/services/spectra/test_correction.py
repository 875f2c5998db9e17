"""The correction between two oracles: it recovers a known map, and its error is that of pairs it never saw."""

import numpy as np
import pytest

from nearedge.fidelity import LEAST_STARTS
from nearedge_db.errors import UserError
from nearedge_services.spectra.correction import LEAST_PAIRS, learn, on_window

CHEAP_EV = np.arange(-2.0, 28.01, 0.25)
DEAR_EV = np.arange(0.0, 26.01, 0.2)
SHIFT_EV = 1.8
WINDOW_EV = (0.0, 22.0)


def peak(energies, centre, width):
    return np.exp(-0.5 * ((energies - centre) / width) ** 2)


def pairs(count: int, noise: float = 0.0, seed: int = 0):
    """Cheap and dear spectra of ``count`` structures: a π* peak of varying height, twice as sharp for the dear one."""
    rng = np.random.default_rng(seed)
    heights = rng.uniform(0.2, 1.0, count)
    cheap = [h * peak(CHEAP_EV, 2.0, 1.0) + peak(CHEAP_EV, 10.0, 4.0) for h in heights]
    dear = [
        1.5 * h * peak(DEAR_EV - SHIFT_EV, 2.0, 0.5) + peak(DEAR_EV - SHIFT_EV, 10.5, 4.0) for h in heights
    ]
    return np.array(cheap), np.array(dear) + noise * np.abs(rng.normal(size=(count, len(DEAR_EV))))


def test_what_differs_by_one_property_is_foretold():
    cheap, dear = pairs(9)
    judged = learn(CHEAP_EV, cheap, DEAR_EV, dear, WINDOW_EV)
    assert judged.pairs == 9
    assert judged.error < 0.1 * judged.constant_error
    assert judged.error < 0.1 * judged.shifted_error
    assert judged.correction.shift_ev == pytest.approx(SHIFT_EV, abs=0.5)


def test_it_holds_for_structures_it_was_not_learnt_from():
    cheap, dear = pairs(12)
    judged = learn(CHEAP_EV, cheap[:9], DEAR_EV, dear[:9], WINDOW_EV)
    wanted = on_window(DEAR_EV, dear[9:], judged.correction.energies_ev)
    found = judged.correction.apply(cheap[9:])
    assert found.shape == wanted.shape
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 3 * judged.error + 1e-4


def test_spectra_without_a_relation_teach_nothing_and_the_error_says_so():
    cheap, dear = pairs(12)
    shuffled = dear[np.random.default_rng(3).permutation(12)]
    judged = learn(CHEAP_EV, cheap, DEAR_EV, shuffled, WINDOW_EV)
    assert judged.error > 0.8 * judged.constant_error


def test_a_pair_that_is_left_out_does_not_foretell_itself():
    """Were it in its own fit, a changed dear spectrum would change what is foretold of it."""
    cheap, dear = pairs(8)
    before = learn(CHEAP_EV, cheap, DEAR_EV, dear, WINDOW_EV).left_out[3]
    changed = dear.copy()
    changed[3] += 0.5 * peak(DEAR_EV, 15.0, 1.0)
    after = learn(CHEAP_EV, cheap, DEAR_EV, changed, WINDOW_EV)
    np.testing.assert_allclose(after.left_out[3], before, atol=1e-12)
    assert (
        np.abs(after.left_out[2] - learn(CHEAP_EV, cheap, DEAR_EV, dear, WINDOW_EV).left_out[2]).max() > 1e-6
    )


def test_the_scale_of_either_oracle_does_not_matter():
    cheap, dear = pairs(8)
    one = learn(CHEAP_EV, cheap, DEAR_EV, dear, WINDOW_EV)
    other = learn(CHEAP_EV, 7.0 * cheap, DEAR_EV, 0.1 * dear, WINDOW_EV)
    np.testing.assert_allclose(other.left_out, one.left_out, atol=1e-5)


def test_too_few_pairs_are_refused():
    assert LEAST_STARTS == LEAST_PAIRS
    cheap, dear = pairs(LEAST_PAIRS - 1)
    with pytest.raises(UserError, match="not enough pairs"):
        learn(CHEAP_EV, cheap, DEAR_EV, dear, WINDOW_EV)
    with pytest.raises(ValueError, match="no pairs"):
        learn(CHEAP_EV, cheap, DEAR_EV, dear[:-1], WINDOW_EV)


def test_spectra_that_end_before_the_window_are_refused():
    cheap, dear = pairs(7)
    short = CHEAP_EV < 10.0
    with pytest.raises(UserError, match="do not overlap"):
        learn(CHEAP_EV[short], cheap[:, short], DEAR_EV, dear, WINDOW_EV)

"""What is known, and how far others are from it: against the plain computation."""

from dataclasses import dataclass

import numpy as np
import pytest

from nearedge.conductor import known
from nearedge.conductor.known import Known


@dataclass
class One:
    fingerprint: np.ndarray
    nearest: float = float("inf")
    compared: int = 0


def plain(fingerprints, wanted):
    return np.linalg.norm(np.asarray(fingerprints)[None] - np.asarray(wanted)[:, None], axis=2).min(axis=1)


@pytest.fixture
def points():
    return np.random.default_rng(3).normal(0.0, 3.0, (40, 96))


@pytest.mark.parametrize("block", [2048, 7])
def test_the_nearest_is_that_of_all_blocks(monkeypatch, points, block):
    monkeypatch.setattr(known, "BLOCK", block)
    wanted = np.random.default_rng(4).normal(0.0, 3.0, (5, 96))
    found = Known(points)
    assert len(found) == 40
    assert found.nearest(wanted) == pytest.approx(plain(points, wanted), rel=1e-5)
    assert found.nearest(wanted, since=33) == pytest.approx(plain(points[33:], wanted), rel=1e-5)


def test_something_known_is_no_distance_away(points):
    """Products lose digits where two are alike: the distance itself must not."""
    assert Known(points).nearest(points[7:8] + 1e-4)[0] == pytest.approx(1e-4 * np.sqrt(96), rel=1e-2)


def test_nothing_is_near_where_nothing_is_known(points):
    assert Known().nearest(points[:2]).tolist() == [np.inf, np.inf]
    assert Known(points).nearest([]).tolist() == []


def test_who_waits_is_compared_with_the_new_ones_only(points):
    found = Known(points[:10])
    early, late = One(points[20] + 0.1), One(points[5] + 0.2)
    found.update([early])
    assert early.compared == 10
    for point in points[10:]:
        found.add(point)
    both = found.update([early, late])
    assert both == pytest.approx(plain(points, [early.fingerprint, late.fingerprint]), rel=1e-4)
    assert (early.compared, late.compared) == (40, 40)
    early.nearest = 0.5  # not looked at again while nothing is new
    assert found.update([early])[0] == 0.5

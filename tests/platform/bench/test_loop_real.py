"""Bench loop by the real clock: its settings, its rows, and, slowly, a small one."""

import pytest

from nearedge.bench.chaos.campaign import Size
from nearedge.bench.loop import real_rows
from nearedge.bench.loop_real import LABELERS, RealCampaign, run_real, settings
from nearedge.latency import Latency
from nearedge.summary import PoolSummary


def campaign(occupied):
    """One whose labelers were occupied for that share of the time since the models were there."""
    pools = {
        name: PoolSummary(0.5, occupied, 0.01, 50.0, 100.0, 5)
        for name in ("labeler", "generator", "scorer", "trainer")
    }
    return RealCampaign(100.0, 3, pools, Latency.of([3.0, 5.0], 4), [20.0, 21.0, 24.0])


@pytest.mark.parametrize(("occupied", "passed"), [(0.951, True), (0.949, False), (None, False)])
def test_labelers_must_be_occupied(occupied, passed):
    rows = real_rows(campaign(occupied))
    assert [row.passed for row in rows if row.limit is not None] == [passed]
    assert (rows[0].measured, rows[0].baseline) == (occupied, 0.5)
    assert (rows[2].measured, rows[2].baseline) == (21.0, 20.0)


def test_labelers_ask_for_little_of_the_machine():
    pools = settings({"pools": {"labeler": {"task_minutes": 0.25}}, "seed": 1})["pools"]
    assert pools["labeler"] == {"size": LABELERS, "cpus": 0.1}


@pytest.mark.slow
def test_a_small_campaign_by_the_real_clock():
    shares = []
    found = run_real(Size(4, 1, 3), 1.0, 0, shares.append)
    assert found.labels >= 8
    assert min(found.label_s) >= 1.0
    assert 0 < found.pools["labeler"].occupancy_since_models <= 1
    assert shares == sorted(shares)

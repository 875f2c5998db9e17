"""Bench loop: the made-up clock, its campaign, and what the figures are made of."""

import json

import numpy as np
import pytest

from nearedge.bench import loop, loop_cost
from nearedge.bench.base import BenchOptions
from nearedge.bench.loop import LoopBench, cost_rows, memory_rows, more_rows
from nearedge.bench.loop_campaign import simulate
from nearedge.bench.loop_clock import Clock, ClockedPool
from nearedge.bench.loop_cost import LoopCost, measure_cost
from nearedge.bench.loop_memory import growth_mib, measure_memory
from nearedge.bench.loop_more import More
from nearedge.bench.record import document
from nearedge_agents.pool import Work
from nearedge_db.database import url_of_run


def ignore(share):
    assert share >= 0


def test_work_ends_in_the_order_of_its_time():
    clock = Clock()
    pool = ClockedPool("labeler", 2, clock, lambda work: work.tag * 2, lambda name, work: float(work.tag))
    pool.start()
    for tag in (5, 3):
        pool.submit(Work("work", (), tag=tag))
    with pytest.raises(RuntimeError, match="no free place"):
        pool.submit(Work("work", (), tag=1))
    (first,) = clock.wait(pool.refs, 0.2)
    assert clock.now == 3.0
    assert pool.collect(first).value == 6
    usage = pool.usage()
    assert (usage.busy, usage.capacity, usage.tasks) == (6.0, 6.0, 1)  # the other one works too
    (second,) = clock.wait(pool.refs, 0.2)
    assert clock.now == 5.0
    assert pool.collect(second).value == 10
    usage = pool.usage()
    assert (usage.busy, usage.capacity) == (2.0, 4.0)
    assert clock.wait(pool.refs, 0.2) == []


def test_a_campaign_by_the_clock_is_complete(tmp_path):
    found = simulate(tmp_path, url_of_run(tmp_path), 30, 0, ignore)
    assert 0 < found.occupancy["labeler"] < found.since_models["labeler"] <= 1
    assert found.models_at_s > 60.0
    assert found.new_models >= 1
    assert found.rescored >= 1
    assert 0 < found.latency.used <= found.latency.labels <= 40
    assert 150.0 / 3 < found.latency.p50_s <= found.latency.p95_s < found.busy[-1][0]
    assert max(working for _, working in found.busy) == 4


def test_a_campaign_by_the_clock_is_repeatable(tmp_path):
    busy = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        busy.append(simulate(tmp_path / name, url_of_run(tmp_path / name), 3, 5, ignore).busy)
    assert busy[0] == busy[1]


def test_the_cost_is_the_drivers_own(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_cost, "WARM_UP_LABELS", 3)
    cost = measure_cost(tmp_path, url_of_run(tmp_path), 8, 0, ignore)
    assert 3 <= cost.labels <= 5  # two may end at once
    own = sum(ms for name, ms in cost.stages.items() if name != "steering")
    assert 0 < own <= cost.driver_cpu_ms
    assert 0 < cost.stages["steering"] < own
    assert cost.ledger_cpu_ms > 0


def test_memory_is_sampled_over_the_whole_run(tmp_path):
    samples = measure_memory(tmp_path, url_of_run(tmp_path), 300, 0, ignore)
    seen = [candidates for candidates, _ in samples]
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert seen[-1] >= 250
    assert all(mib > 10 for _, mib in samples)


def test_the_whole_bench_fills_its_table_and_its_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_cost, "WARM_UP_LABELS", 3)
    monkeypatch.setattr(loop, "SHORT_SIZES", (8, 300, 30))
    monkeypatch.setattr(loop, "TRANSACTIONS", 3)
    shares = []
    bench = LoopBench()
    result = bench.run(BenchOptions(tmp_path, short=True), lambda share, what: shares.append(share))
    assert all(0 <= share <= 1 for share in shares)
    assert all(row.measured is not None for row in result.rows)
    assert sum(row.limit is not None for row in result.rows) == 5
    whole = json.loads(json.dumps(document(result, BenchOptions(tmp_path), 1.0), allow_nan=False))
    assert whole["data"]["cost"]["driver_cpu_ms"] == result.rows[0].measured
    bench.draw(result, tmp_path / "loop.png")
    assert (tmp_path / "loop.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loop.png"]


def test_growth_is_the_slope_once_all_is_warm():
    seen = np.linspace(0, 1000, 41)
    memory = np.where(seen < 200, 100 + seen, 300 + 0.01 * seen)
    assert growth_mib(list(zip(seen, memory, strict=True)), 100_000) == pytest.approx(1000.0, rel=1e-6)


@pytest.mark.parametrize(("cpu_ms", "passed"), [(4.9, True), (5.1, False)])
def test_five_milliseconds_are_two_hundred_tasks_a_second(cpu_ms, passed):
    rows = cost_rows(LoopCost(100, 300, cpu_ms, 9.0, 2.0, {"labelling": 2.0}), (0.5, 1.0), 7.0)
    assert [row.passed for row in rows[:2]] == [passed, passed]
    assert rows[0].baseline == 7.0
    assert rows[1].measured == pytest.approx(1000 / cpu_ms)


@pytest.mark.parametrize(
    ("driver_ms", "labeler_ms", "rate"), [(4.0, 4.0, 250.0), (4.0, 8.0, 166.7), (4.0, 1.0, 250.0)]
)
def test_two_cores_have_the_labelers_work_too_and_one_of_them_the_drivers(driver_ms, labeler_ms, rate):
    rows = cost_rows(LoopCost(100, 300, driver_ms, 9.0, labeler_ms, {}), (0.5, 1.0), 7.0)
    assert rows[2].measured == pytest.approx(rate, abs=0.1)
    assert rows[2].passed == (rate >= 200)


def test_growing_memory_fails():
    assert [row.passed for row in memory_rows(63.0, [(10, 200.0)])] == [True, None]
    assert memory_rows(65.0, [(10, 200.0)])[0].passed is False


def test_what_more_takes_is_shown_where_it_was_measured():
    usual, larger = (LoopCost(100, 300, ms, 9.0, 2.0, {}) for ms in (5.0, 3.0))
    (row,) = more_rows(More(larger, None, None), usual)
    assert (row.measured, row.baseline, row.limit) == (3.0, 5.0, None)
    assert len(more_rows(More(larger, usual, larger), usual)) == 3

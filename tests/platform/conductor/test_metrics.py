"""What Prometheus finds at the exporter of a node: of work that was really done, on a real Ray."""

import os
import re
import time
import urllib.request

import pytest
import ray
from tests.platform.conductor.fake_world import FakePool

from nearedge.conductor.metrics import Metrics, outcome
from nearedge_agents.pool import Done, Usage, Work
from nearedge_agents.worker import TaskReport
from nearedge_db.states import TaskState

WORK = Work("work", (1,), tag=1)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        (Done(WORK, value=TaskReport(1, TaskState.DONE)), "done"),
        (Done(WORK, value=TaskReport(1, TaskState.RETRY)), "failed"),
        (Done(WORK, value=["structures"]), "done"),
        (Done(WORK, error=ValueError("broken")), "failed"),
        (Done(WORK, error=ValueError("gone"), lost=True), "lost"),
    ],
)
def test_the_outcome_of_a_piece_of_work(done, expected):
    assert outcome(done) == expected


@pytest.fixture(scope="module")
def exporter():
    """Address of the exporter of a Ray as a campaign of its own starts it."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    (node,) = ray.nodes()
    yield f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    ray.shutdown()


def scraped(address: str, wanted: str) -> dict[str, float]:
    """``name{our tags}`` -> value, once ``wanted`` is there: Ray's workers report every ten seconds."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 (http of this machine)
            text = answer.read().decode()
        found = {}
        for name, tags, value in re.findall(r"^ray_(nearedge_\w+)\{(.*)\} (\S+)$", text, flags=re.MULTILINE):
            ours = re.findall(r'\b((?:campaign|pool|outcome|state|role|le)="[^"]*")', tags)
            found[f"{name}{{{','.join(sorted(ours))}}}"] = float(value)
        if wanted in found:
            return found
        time.sleep(1.0)
    raise AssertionError(f"{wanted} is not exported; found {sorted(found)}")


@pytest.mark.slow
def test_prometheus_finds_the_campaign_at_the_exporter(exporter):
    metrics = Metrics("film")
    for value, seconds in ((TaskReport(1, TaskState.DONE), 0.2), (TaskReport(2, TaskState.QUARANTINED), 2.0)):
        metrics.ended("labeler", Done(WORK, value=value, seconds=seconds))
    metrics.ended("labeler", Done(WORK, error=ValueError("gone"), lost=True, seconds=50.0))
    metrics.used("labeler", Usage(busy=3.0, capacity=4.0))
    metrics.used("labeler", Usage(busy=0.0, capacity=2.0))
    pool = FakePool("labeler", 2, lambda work: None)
    pool.submit(WORK)
    metrics.look({"labeler": pool}, {"labeler": 5})
    metrics.progress({"guided": 2}, float("inf"))
    metrics.progress({"guided": 3}, 0.0125)
    found = scraped(exporter, 'nearedge_best_distance_per_ev{campaign="film"}')
    tags = 'campaign="film",{}pool="labeler"'
    assert found['nearedge_best_distance_per_ev{campaign="film"}'] == 0.0125
    assert found['nearedge_labels{campaign="film",role="guided"}'] == 3
    for name in ("done", "failed", "lost"):
        assert found[f"nearedge_work_total{{{tags.format(f'outcome={chr(34)}{name}{chr(34)},')}}}"] == 1
    plain = tags.format("")
    assert found[f"nearedge_work_seconds_count{{{plain}}}"] == 2
    assert found[f"nearedge_work_seconds_sum{{{plain}}}"] == pytest.approx(2.2)
    assert found[f"nearedge_busy_seconds_total{{{plain}}}"] == 3
    assert found[f"nearedge_actor_seconds_total{{{plain}}}"] == 6
    assert found[f"nearedge_occupancy{{{plain}}}"] == 0
    assert found[f"nearedge_waiting{{{plain}}}"] == 5
    assert found[f'nearedge_actors{{{plain},state="busy"}}'] == 1
    assert found[f'nearedge_actors{{{plain},state="free"}}'] == 1

"""A campaign by the real clock: actors of Ray, the models that come with the program, and labels that take their time.

A label is one of ``xtb`` after a sleep: time without work for the processor, as with an oracle that runs elsewhere. So
two cores show how busy the loop keeps labelers that wait, while sampling, scoring and training are all real.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select

from nearedge.bench.chaos import campaign, cluster
from nearedge.bench.chaos.campaign import Size
from nearedge.bench.chaos.driving import Driver
from nearedge.bench.chaos.ledger import Watch
from nearedge.bench.chaos.oracle import PLAN_VARIABLE
from nearedge.bench.chaos.plan import OraclePlan
from nearedge.latency import Latency
from nearedge.summary import PoolSummary, summarise
from nearedge_db.database import Database, url_of_run
from nearedge_db.schema import TaskRow
from nearedge_db.states import TaskKind

NAME = "real"
LABEL_S = 20.0
LABELERS = 3
SIZE = Size(starting=6, baseline=9, guided=51)
LIMIT_S = 1500.0
LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class RealCampaign:
    """What `nearedge status` says of it in the end.

    ``pools``: occupancy over the whole run and since the models were there, processor seconds per second of an actor.
    ``label_s``: seconds of each guided or unguided label, lease to result.
    """

    seconds: float
    labels: int
    pools: dict[str, PoolSummary]
    latency: Latency
    label_s: list[float]


def run_real(size: Size, label_s: float, seed: int, report: Callable[[float], None]) -> RealCampaign:
    """Run it in a folder of its own. Raises RuntimeError with what it said where it fails."""
    with cluster.interrupted_by_sigterm(), cluster.short_folder() as folder:
        material = campaign.make_material(folder / "material", size, seed, lambda share: report(0.1 * share))
        plan = OraclePlan(str(folder), seed, {}, 0.0, label_s)
        plan.save(folder / "plan.json")
        config = folder / "campaign.yaml"
        given = settings(campaign.settings(NAME, folder, material, size, "local", seed))
        config.write_text(yaml.safe_dump(given), encoding="utf-8")
        surroundings = cluster.environment(folder, uuid.uuid4().hex)
        started = time.monotonic()
        driver = Driver(config, {**surroundings, PLAN_VARIABLE: str(folder / "plan.json")})
        try:
            status = _follow(driver, Path(given["dir"]), size, lambda share: report(0.1 + 0.9 * share))
        finally:
            driver.end()
        if status != 0:
            said = driver.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"the campaign ended with status {status}: {said}")
        return _read(Path(given["dir"]), time.monotonic() - started)


def settings(of_chaos: dict[str, Any]) -> dict[str, Any]:
    """Those of the bench ``chaos``, with labelers that need hardly any processor and nothing that is killed."""
    pools = {
        "generator": {"size": 1},
        "scorer": {"size": 1},
        "labeler": {"size": LABELERS, "cpus": 0.1},
        "trainer": {"size": 1},
    }
    return {**of_chaos, "pools": pools, "ray": {"address": "local"}}


def _follow(driver: Driver, run_dir: Path, size: Size, report: Callable[[float], None]) -> int | None:
    """Its exit status; None where it takes too long."""
    watch, end = Watch(run_dir), time.monotonic() + LIMIT_S
    try:
        while time.monotonic() < end:
            status = driver.wait(LOOK_EVERY_S)
            if status is not None:
                return status
            report(min(watch.look(time.time()) / size.labels, 1.0))
        return None
    finally:
        watch.close()


def _read(run_dir: Path, seconds: float) -> RealCampaign:
    database = Database.open(url_of_run(run_dir), create=False)
    try:
        summary = summarise(database, NAME)
        label_s = _seconds(database)
    finally:
        database.dispose()
    return RealCampaign(seconds, len(label_s), summary.pools, summary.latency, label_s)


def _seconds(database: Database) -> list[float]:
    """What each finished label took, the oldest first."""
    query = select(TaskRow.seconds).where(TaskRow.kind == TaskKind.LABEL.value, TaskRow.seconds.is_not(None))
    with database.session() as session:
        return [float(one) for one in session.scalars(query.order_by(TaskRow.id)) if one is not None]

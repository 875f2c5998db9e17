"""The bench ``chaos``: the same campaign twice, undisturbed and with everything that can be killed killed.

Both run ``nearedge run`` on a Ray cluster of two nodes, small networks of carbon and the oracle ``xtb``. In the second,
processes are killed with ``kill -9`` at moments that the seed decides, and the oracle hangs, crashes and returns
garbage for structures that the seed chooses. What the oracle itself wrote down is then held against the database.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearedge.bench.base import BenchOptions, BenchResult, Report
from nearedge.bench.chaos import campaign, cluster, leavings, ledger
from nearedge.bench.chaos.campaign import Material, Size
from nearedge.bench.chaos.cluster import RayNodes
from nearedge.bench.chaos.driving import Driver
from nearedge.bench.chaos.evidence import Evidence, Outcome
from nearedge.bench.chaos.journal import Journal
from nearedge.bench.chaos.oracle import JOURNAL_FILE, PLAN_VARIABLE
from nearedge.bench.chaos.plan import VICTIMS, OraclePlan, Strike, faults_of_known, strikes
from nearedge.bench.chaos.rows import rows
from nearedge.bench.chaos.striking import Striker
from nearedge_db.database import Database, url_of_run

FULL = Size(starting=16, baseline=8, guided=24, best_worse=1.5, late_worse=0.3)
SHORT = Size(starting=6, baseline=2, guided=6, best_worse=2.5, late_worse=0.8)
SHARE = 0.1
"""Probability of a fault of the oracle for a structure that is not a starting one."""
PAUSE_S = 0.5
LIMIT_S = 1800.0
"""Of one campaign."""


class ChaosBench:
    """What a campaign loses, repeats and leaves behind when its processes are killed."""

    name = "chaos"

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        size = SHORT if options.short else FULL
        mark = uuid.uuid4().hex
        with cluster.interrupted_by_sigterm(), cluster.short_folder() as folder:
            report(0.0, "starting structures")
            material = campaign.make_material(
                folder / "material",
                size,
                options.seed,
                lambda share: report(0.1 * share, "starting structures"),
            )
            environment = cluster.environment(folder, mark)
            with cluster.running(folder, environment, campaign.CPUS) as nodes:
                runs = _Runs(folder, environment, nodes, material, size, options.seed, report)
                undisturbed, _ = runs.run(
                    "undisturbed", OraclePlan(str(folder), options.seed, {}, 0.0, PAUSE_S), [], 0.1
                )
                if undisturbed.status != 0:
                    raise RuntimeError(f"the undisturbed campaign failed: {runs.output('undisturbed')}")
                disturbed, evidence = runs.run(
                    "disturbed", *_plans(folder, material, size, options.seed), 0.4
                )
            report(0.95, "what is left")
            evidence.orphans.extend(leavings.orphans(mark))
            evidence.scratch.extend(leavings.scratch_left(folder / "scratch"))
            output = runs.output("disturbed")
        data = {
            "size": asdict(size),
            "undisturbed": asdict(undisturbed),
            "disturbed": asdict(disturbed),
            "evidence": asdict(evidence),
            "lost": evidence.lost,
            "twice": evidence.twice,
            "attempts": _attempts(evidence),
            "output": output,
        }
        return BenchResult(self.name, rows(undisturbed, disturbed, evidence, VICTIMS, size), data)

    def draw(self, result: BenchResult, path: Path) -> None:
        """See `Bench.draw`."""
        from nearedge.bench.chaos.picture import draw

        draw(result, path)


def _attempts(evidence: Evidence) -> list[dict[str, Any]]:
    """Every calculation, with the seconds that were wasted where it had to be done again."""
    wasted = {one.attempt: one for one in evidence.again}
    found = []
    for one in sorted((one for ones in evidence.tried.values() for one in ones), key=lambda one: one.begun):
        again = wasted.get(one)
        why = {} if again is None else {"cause": again.cause}
        found.append({**asdict(one), **why, "wasted_s": None if again is None else again.seconds})
    return found


def _plans(folder: Path, material: Material, size: Size, seed: int) -> tuple[OraclePlan, list[Strike]]:
    """What goes wrong: the oracle for starting structures and by chance, and processes in the first two thirds."""
    plan = OraclePlan(str(folder), seed, faults_of_known(material.keys, seed), SHARE, PAUSE_S)
    return plan, strikes(VICTIMS, 2, (2 * size.labels) // 3, seed)


@dataclass(frozen=True)
class _Runs:
    """Runs campaigns that differ in what goes wrong."""

    folder: Path
    environment: Mapping[str, str]
    nodes: RayNodes
    material: Material
    size: Size
    seed: int
    report: Report

    def run(
        self, name: str, plan: OraclePlan, to_strike: list[Strike], share: float
    ) -> tuple[Outcome, Evidence]:
        """One campaign to its end; ``share`` of the bench is done before."""
        config = campaign.write(
            name, self.folder / name, self.material, self.size, self.nodes.address, self.seed
        )
        run_dir = config.parent / "run"
        plan = OraclePlan(**{**asdict(plan), "folder": str(config.parent)})
        plan.save(config.parent / "plan.json")
        started = time.time()
        driver = Driver(config, {**self.environment, PLAN_VARIABLE: str(config.parent / "plan.json")})
        striker, watch = Striker(to_strike, driver, self.nodes), ledger.Watch(run_dir)
        try:
            status = self._follow(driver, striker, watch, share)
            seconds = time.time() - started
            watch.look(time.time())
        finally:
            watch.close()
            driver.end()
        actors = leavings.living_actors(self.nodes)
        database = Database.open(url_of_run(run_dir), create=False)
        try:
            outcome = _outcome(database, name, status, seconds, driver, watch, started)
            evidence = Evidence(
                started=started,
                lines=Journal(config.parent / JOURNAL_FILE).read(),
                kills=striker.kills,
                ledger=ledger.entries(database),
                seen=watch.seen,
                labels=ledger.labels(database),
                open_tasks=ledger.open_tasks(database),
                trainings_again=ledger.trainings_again(database),
                actors=actors,
            )
        finally:
            database.dispose()
        return outcome, evidence

    def output(self, name: str) -> str:
        """The end of what the drivers of a campaign said."""
        text = (self.folder / name / "output.txt").read_text(encoding="utf-8", errors="replace")
        return text[-4000:]

    def _follow(self, driver: Driver, striker: Striker, watch: ledger.Watch, share: float) -> int | None:
        """Strike and watch until the driver ends by itself; its exit status, None where it takes too long."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            labels = watch.look(time.time())
            striker.step(labels)
            self.report(share + 0.3 * min(labels / self.size.labels, 1.0), f"{labels} labels")
            status = driver.wait(0.1)
            if status is not None:
                return status
        return None


def _outcome(
    database: Database,
    name: str,
    status: int | None,
    seconds: float,
    driver: Driver,
    watch: ledger.Watch,
    started: float,
) -> Outcome:
    from nearedge.summary import summarise

    summary = summarise(database, name)
    return Outcome(
        status=status,
        seconds=seconds,
        sessions=driver.starts,
        guided=summary.labels.guided,
        baseline=summary.labels.baseline,
        best_distance=summary.best_distance,
        late_over_unguided=summary.late_over_unguided,
        label_times=sorted(at - started for at in watch.times.values()),
    )

"""The bench ``chaos``: the same campaign twice, undisturbed and with everything that can be killed killed.

The short form leaves the undisturbed one out: see `quality` for what its answer is held against. Both run
``nearedge run`` on a Ray cluster of two nodes, small networks of carbon and the oracle ``xtb``. In the disturbed one,
processes are killed with ``kill -9`` at moments that the seed decides, and the oracle hangs, crashes and returns
garbage for structures that the seed chooses. What the oracle itself wrote down is then held against the database.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

FULL = Size(starting=16, baseline=8, guided=24, first_strike=2)
SHORT = Size(starting=6, baseline=2, guided=12, first_strike=6)
SHARE = 0.1
"""Probability of a fault of the oracle for a structure that is not a starting one."""
PAUSE_S = 0.5
LIMIT_S = 1800.0
"""Of one campaign."""
MOST_PROLONGED = 3
"""How often a campaign is continued with more labels because somebody was not at work when he was to be struck."""


class ChaosBench:
    """What a campaign loses, repeats and leaves behind when its processes are killed."""

    name = "chaos"

    def run(self, options: BenchOptions, report: Report) -> BenchResult:
        """See `Bench.run`."""
        size = SHORT if options.short else FULL
        mark, undisturbed = uuid.uuid4().hex, None
        with session(size, options.seed, mark, report) as runs:
            if not options.short:
                undisturbed = runs.undisturbed(0.1)
            disturbed, evidence = runs.disturbed(0.1 if options.short else 0.5)
            output, folder = runs.output("disturbed"), runs.folder
            runs.nodes.stop()
            report(0.95, "what is left")
            evidence.orphans.extend(leavings.orphans(mark))
            evidence.scratch.extend(leavings.scratch_left(folder / "scratch"))
        data = {
            "size": asdict(size),
            "undisturbed": None if undisturbed is None else asdict(undisturbed),
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
    """What goes wrong: the oracle for starting structures and by chance, and processes up to two thirds."""
    plan = OraclePlan(str(folder), seed, faults_of_known(material.keys, seed), SHARE, PAUSE_S)
    return plan, strikes(VICTIMS, size.first_strike, (2 * size.labels) // 3, seed)


@contextmanager
def session(size: Size, seed: int, mark: str, report: Report) -> "Iterator[_Runs]":
    """What campaigns need: a folder, material, and Ray's nodes, whose processes bear the mark."""
    with cluster.interrupted_by_sigterm(), cluster.short_folder() as folder:
        report(0.0, "starting structures")
        material = campaign.make_material(
            folder / "material", size, seed, lambda share: report(0.1 * share, "starting structures")
        )
        environment = cluster.environment(folder, mark)
        with cluster.running(folder, environment, campaign.CPUS) as nodes:
            yield _Runs(folder, environment, nodes, material, size, seed, report)


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

    def undisturbed(self, share: float) -> Outcome:
        """A campaign in which nothing goes wrong; ``share`` of the bench is done before."""
        name = "undisturbed"
        outcome, _ = self._run(name, OraclePlan(str(self.folder), self.seed, {}, 0.0, PAUSE_S), [], share)
        if outcome.status != 0:
            raise RuntimeError(f"the undisturbed campaign failed: {self.output(name)}")
        return outcome

    def disturbed(self, share: float) -> tuple[Outcome, Evidence]:
        """One with all faults."""
        plan, to_strike = _plans(self.folder, self.material, self.size, self.seed)
        return self._run("disturbed", plan, to_strike, share)

    def _run(
        self, name: str, plan: OraclePlan, to_strike: list[Strike], share: float
    ) -> tuple[Outcome, Evidence]:
        """One campaign to its end."""
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
        """Strike and watch until the driver ends by itself; its exit status, None where it takes too long.

        A campaign that is finished before everybody was struck is continued with more labels.
        """
        end, prolonged = time.monotonic() + LIMIT_S, 0
        while time.monotonic() < end:
            labels = watch.look(time.time())
            striker.step(labels)
            self.report(share + 0.4 * min(labels / self.size.labels, 1.0), f"{labels} labels")
            status = driver.wait(0.1)
            if status == 0 and striker.left and prolonged < MOST_PROLONGED:
                prolonged += 1
                campaign.prolong(driver.config)
                driver.start()
            elif status is not None:
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
        best_over_start=summary.best_over_seed,
        late_over_unguided=summary.late_over_unguided,
        label_times=sorted(at - started for at in watch.times.values()),
    )

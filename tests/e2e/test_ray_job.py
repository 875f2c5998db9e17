"""A campaign by ``ray job submit`` on several nodes: entry point, logs, exit code, stop and continuation."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from tests.deploy.clusters import ROOT, processes, running_cluster
from tests.e2e.tiny import SETTINGS, write_campaign

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
PACKAGES = ("platform", "agents", "services", "db")
FROM_CHECKOUT = json.dumps({"env_vars": {"PYTHONPATH": ":".join(PACKAGES)}})
POOLS = {"trainer": {"size": 1}, "labeler": {"size": 2, "cpus": 0.6}}
"""Two labelers that no node of one CPU has room for together."""
STOP = {"labels": 12, "baseline_labels": 1}
"""So many that a campaign is not finished before it is told to stop: `ray job stop` takes seconds to be there."""
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@pytest.fixture(scope="module")
def cluster():
    # not in a folder of pytest: another pytest that starts takes the right to enter those from PostgreSQL's own user
    with (
        tempfile.TemporaryDirectory(prefix="nearedge-cluster-", ignore_cleanup_errors=True) as folder,
        running_cluster(Path(folder)) as (environment, state),
    ):
        yield environment, state
        servers = [
            child for one in processes(state).values() for child in [one, *one.children(recursive=True)]
        ]
    _, alive = psutil.wait_procs(servers, timeout=30)
    assert alive == []


@pytest.fixture(scope="module")
def ray_job(cluster):
    """Run ``ray job …``; returns what it said."""
    environment, _ = cluster

    def run(*arguments: str, cwd: Path = ROOT, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "ray"), "job", *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def ask(cluster):
    """What the cluster says: an expression in ``client``, by a program with the cluster's environment."""
    code = "import sys; from ray.job_submission import JobSubmissionClient; client = JobSubmissionClient(); "

    def run(expression: str) -> str:
        command = [sys.executable, "-c", f"{code} sys.stdout.write(str({expression}))"]
        return subprocess.run(command, env=cluster[0], stdout=subprocess.PIPE, text=True, check=True).stdout

    return run


@pytest.fixture
def details(ask):
    """Status and exit code of a job."""
    return lambda job: (
        ask(f"client.get_job_status({job!r}).value"),
        ask(f"client.get_job_info({job!r}).driver_exit_code"),
    )


@pytest.fixture
def log_of(ask):
    """What a job has printed."""
    return lambda job: ask(f"client.get_job_logs({job!r})")


@pytest.fixture
def tasks(cluster):
    """Rows of the tasks in PostgreSQL by a condition."""
    engine = create_engine(cluster[0]["NEAREDGE_DATABASE"])

    def query(condition: str) -> list[tuple]:
        with engine.connect() as connection:
            if not connection.scalar(text("SELECT to_regclass('tasks')")):
                return []
            rows = connection.execute(
                text(f"SELECT id, owner, finished_at FROM tasks WHERE {condition} ORDER BY id")
            )
            return [tuple(row) for row in rows]

    yield query
    engine.dispose()


def wait_for(condition: Callable[[], object], what: str, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.3)


def checkout(folder: Path) -> Path:
    """A small checkout: the packages and a campaign."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    write_campaign(folder / "examples", pools=POOLS, stop=STOP)
    return folder


def wheel(folder: Path) -> Path:
    """Where a wheel of the project, built now, is installed without its requirements."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = (folder / "dist").glob("*.whl")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder / "site"),
    ]
    subprocess.run([*command, str(built)], check=True, capture_output=True)
    return folder / "site"


def test_bad_input_is_exit_status_2_and_one_line(ray_job, details, log_of, tmp_path):
    write_campaign(tmp_path)
    result = ray_job(
        *("submit", "--submission-id", "bad", "--working-dir", str(tmp_path), "--"),
        *("nearedge", "run", "tiny.yaml", "--set", "stop.labels=-1"),
    )
    assert result.returncode == 1  # of `ray job submit` itself, for any job that failed
    assert details("bad") == ("FAILED", "2")
    assert "error: bad value for 'stop.labels'" in log_of("bad")


def test_the_servers_listen_on_loopback_only(cluster):
    for name, server in processes(cluster[1]).items():
        family = [server, *server.children(recursive=True)]
        listening = [
            one.laddr.ip
            for process in family
            for one in process.net_connections(kind="inet")
            if one.status == psutil.CONN_LISTEN
        ]
        assert set(listening) <= set(LOOPBACK), name


def test_a_campaign_begun_from_a_checkout_is_stopped_and_goes_on_from_a_wheel(
    cluster, ray_job, details, log_of, tasks, tmp_path
):
    environment, state = cluster
    folder, run_dir = checkout(tmp_path / "checkout"), Path(environment["NEAREDGE_RUNS"]) / "tiny"

    def submit(job: str) -> None:
        submitted = ray_job(
            *("submit", "--no-wait", "--submission-id", job, "--working-dir", ".", "--runtime-env-json"),
            *(FROM_CHECKOUT, "--", "python", "-m", "nearedge", "run", "examples/tiny.yaml"),
            cwd=folder,
        )
        assert submitted.returncode == 0, submitted.stderr

    submit("first")
    wait_for(lambda: tasks("state = 'DONE'") and tasks("state = 'LEASED'"), "a first starting structure")
    assert_driver_uses_the_cluster(state, "nearedge run examples/tiny.yaml")
    wait_for(lambda: len(nodes_of_labelers(state)) > 1, "labelers on several nodes")
    in_flight = tasks("kind = 'seed' AND state = 'LEASED'")
    stop = [str(BIN / "nearedge"), "stop", "tiny"]  # where the head is, as a user does it
    asked = subprocess.run(stop, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    assert asked.stdout == "campaign tiny: STOPPING\n"
    wait_for(lambda: details("first")[0] != "RUNNING", "the job to end")
    assert details("first") == ("FAILED", "130")  # Ray calls so whatever does not end with 0
    assert "campaign tiny: stopped (stop requested)" in log_of("first")
    done = assert_drained(tasks, in_flight)

    submit("second")
    wait_for(lambda: len(tasks("state = 'DONE'")) > len(done) and tasks("state = 'LEASED'"), "more")
    in_flight = tasks("kind IN ('seed', 'label') AND state = 'LEASED'")
    assert ray_job("stop", "second").returncode == 0
    assert details("second") == ("STOPPED", "None")  # Ray keeps no exit status of those
    log = log_of("second")
    assert "SIGTERM" in log
    assert "the same command goes on" in log
    assert "\x1b" not in log
    assert f"run directory: {run_dir}" in log
    assert "warning:" not in log
    done = assert_drained(tasks, in_flight)

    site = wheel(tmp_path)
    write_campaign(
        tmp_path / "campaign",
        acquisition={**SETTINGS["acquisition"], "max_waiting": 5},
        pools=POOLS,
        stop=STOP,
    )
    from_wheel = json.dumps({"env_vars": {"PYTHONPATH": str(site)}})
    result = ray_job(
        *("submit", "--submission-id", "third", "--working-dir", str(tmp_path / "campaign")),
        *("--runtime-env-json", from_wheel, "--", str(site / "bin" / "nearedge"), "run", "tiny.yaml"),
    )
    log = log_of("third")
    assert result.returncode == 0, log
    assert details("third") == ("SUCCEEDED", "0")
    assert "campaign tiny: finished" in log
    assert (run_dir / "report.html").exists()
    numbers = ", ".join(str(number) for number, *_ in done)
    assert tasks(f"id IN ({numbers})") == done  # nothing that was done is done again
    assert len(tasks("kind = 'seed' AND state = 'DONE'")) == SETTINGS["seeds"]["count"]
    assert tasks("state NOT IN ('DONE', 'CANCELLED', 'QUARANTINED')") == []

    again = ray_job(
        *("submit", "--submission-id", "fourth", "--working-dir", str(tmp_path / "campaign"), "--"),
        *("nearedge", "run", "tiny.yaml"),
    )
    assert again.returncode == 0
    assert "campaign tiny is finished" in log_of("fourth")


def assert_drained(tasks: Callable[[str], list[tuple]], in_flight: list[tuple]) -> list[tuple]:
    """What was under way when the job was to end is done; returns all that is."""
    assert tasks("state = 'LEASED'") == []
    done = tasks("state = 'DONE'")
    assert {number for number, *_ in in_flight} <= {number for number, *_ in done}
    return done


def nodes_of_labelers(state: Path) -> set[str]:
    """Names of the nodes on which there is a labeler."""
    return {
        name
        for name, node in processes(state).items()
        if name.startswith("ray")
        for one in node.children(recursive=True)
        if "ray::Labeler" in " ".join(_command(one))
    }


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def assert_driver_uses_the_cluster(state: Path, command: str) -> None:
    """It has started no Ray of its own: those who would be its children run under the nodes."""
    head = processes(state)["ray-head"]
    drivers = [one for one in head.children(recursive=True) if command in " ".join(_command(one))]
    assert drivers
    names = {child.name() for driver in drivers for child in driver.children(recursive=True)}
    assert not names & {"raylet", "gcs_server"}

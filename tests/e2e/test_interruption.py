"""Campaigns that are interrupted, killed, or repeated: nothing is lost, nothing is paid for twice, nothing differs."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from tests.e2e.tiny import SETTINGS, nearedge, rows, status, write_campaign
from tests.e2e.witness import Witness

pytestmark = pytest.mark.slow

BASELINE = SETTINGS["stop"]["baseline_labels"]
LABELS = SETTINGS["stop"]["labels"]


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_stays():
    """A driver that a failed test leaves behind is ended."""
    yield
    while STARTED:
        driver = STARTED.pop()
        driver.kill()
        driver.wait()


@pytest.fixture
def witness(tmp_path) -> Witness:
    """What the oracle says that it did."""
    return Witness(tmp_path / "witness")


def start(folder: Path, witness: Witness) -> subprocess.Popen:
    """The campaign in the background, as from a terminal: in a process group of its own."""
    write_campaign(folder)
    with (folder / "output.txt").open("w") as output:
        driver = subprocess.Popen(
            witness.command("run", "tiny.yaml"),
            cwd=folder,
            env=witness.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    STARTED.append(driver)
    return driver


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    """Wait until it holds, while the driver lives."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert STARTED[-1].poll() is None, "the driver has ended"
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


def at_work(folder: Path, kind: str, done: int) -> Callable[[], bool]:
    """Whether so many tasks of a kind are done and another one is being worked on."""

    def look() -> bool:
        if not (folder / "runs" / "tiny" / "campaign.json").exists():  # written once the tables are there
            return False
        query = f"SELECT state, COUNT(*) FROM tasks WHERE kind = '{kind}' GROUP BY state"
        found = dict(rows(folder, query))
        return found.get("DONE", 0) >= done and found.get("LEASED", 0) >= 1

    return look


def descendants(driver: subprocess.Popen) -> list[psutil.Process]:
    """The driver's processes: Ray's servers, its workers, the actors."""
    found = psutil.Process(driver.pid).children(recursive=True)
    assert any(process.name() == "raylet" for process in found)
    return found


def assert_no_orphans(processes: list[psutil.Process]) -> None:
    """Ray's processes have ended; its two agents take a minute to believe that the driver is gone."""
    _, alive = psutil.wait_procs(processes, timeout=120)
    assert [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def stored(folder: Path) -> set[str]:
    """Hashes of the structures that have a label, but for those whose relaxation left it behind."""
    relaxed = "SELECT structure_id FROM campaign_structures WHERE origin IN ('seed', 'seed_path')"
    query = (
        "SELECT hash FROM labels JOIN structures ON structures.id = labels.structure_id"
        f" WHERE structures.id NOT IN ({relaxed})"
    )
    return {key for (key,) in rows(folder, query)}


def assert_finished(folder: Path, witness: Witness) -> None:
    """With all that was asked for; whatever the oracle computed is there, and no training was begun in vain."""
    told = status(folder)
    assert told["state"] == "FINISHED"
    assert (told["labels"]["baseline"], told["labels"]["guided"]) == (BASELINE, LABELS)
    assert set(witness.computed()) == stored(folder)
    assert witness.at_the_same_time() == []
    seeds = "SELECT COUNT(*) FROM tasks WHERE kind = 'seed' AND state = 'DONE'"
    assert rows(folder, seeds) == [(SETTINGS["seeds"]["count"],)]
    unfinished = "SELECT kind, state FROM tasks WHERE state NOT IN ('DONE', 'CANCELLED', 'QUARANTINED')"
    assert rows(folder, unfinished) == []


def assert_nothing_twice(witness: Witness) -> None:
    """By the oracle's own account: each label was begun once, and ended."""
    begun = witness.begun()
    assert sorted(begun) == sorted(set(begun)) == sorted(witness.computed().elements())


def go_on(folder: Path, witness: Witness | None = None) -> None:
    """The same command again, to the end."""
    if witness is None:
        result = nearedge("run", "tiny.yaml", cwd=folder, timeout=400)
    else:
        result = subprocess.run(
            witness.command("run", "tiny.yaml"),
            cwd=folder,
            env=witness.environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


@pytest.mark.parametrize("kind", ["seed", "train"])
def test_ctrl_c_loses_nothing(tmp_path, witness, kind):
    driver = start(tmp_path, witness)
    wait_for(at_work(tmp_path, kind, 1), f"a {kind} task at work")
    processes = descendants(driver)
    in_flight = rows(tmp_path, f"SELECT id FROM tasks WHERE kind = '{kind}' AND state = 'LEASED'")
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it: to every process in the foreground
    assert driver.wait(timeout=120) == 130
    assert "the same command goes on from here" in (tmp_path / "output.txt").read_text()
    assert_no_orphans(processes)
    assert_drained(tmp_path, witness, in_flight)
    done = rows(tmp_path, "SELECT id, owner, finished_at FROM tasks WHERE state = 'DONE' ORDER BY id")
    go_on(tmp_path, witness)
    assert_finished(tmp_path, witness)
    assert_nothing_twice(witness)
    numbers = ", ".join(str(number) for number, *_ in done)
    again = rows(tmp_path, f"SELECT id, owner, finished_at FROM tasks WHERE id IN ({numbers}) ORDER BY id")
    assert again == done


def assert_drained(folder: Path, witness: Witness, in_flight: list[tuple]) -> None:
    """Stopped, with what was in flight done and stored."""
    assert status(folder)["state"] == "STOPPED"
    assert rows(folder, "SELECT kind FROM tasks WHERE state = 'LEASED'") == []
    done = rows(folder, "SELECT id FROM tasks WHERE state = 'DONE'")
    assert in_flight
    assert set(in_flight) <= set(done)
    assert witness.cut_off() == []
    assert set(witness.computed()) == stored(folder)


@pytest.mark.parametrize("kind", ["seed", "label"])
def test_sigterm_to_all_processes_finishes_what_is_in_flight(tmp_path, witness, kind):
    """As `timeout`, systemd and Slurm send it: to Ray's processes too, wherever they are."""
    driver = start(tmp_path, witness)
    wait_for(at_work(tmp_path, kind, 1), f"a {kind} task at work")
    processes = descendants(driver)
    in_flight = rows(tmp_path, "SELECT id FROM tasks WHERE kind IN ('seed', 'label') AND state = 'LEASED'")
    for process in [psutil.Process(driver.pid), *processes]:
        with suppress(psutil.NoSuchProcess):  # the pause of a label
            process.send_signal(signal.SIGTERM)
    os.killpg(driver.pid, signal.SIGTERM)
    assert driver.wait(timeout=120) == 130
    output = (tmp_path / "output.txt").read_text()
    assert "SIGTERM: finishing labels in flight" in output
    assert "the same command goes on from here" in output
    assert "GCS" not in output
    assert_no_orphans(processes)
    assert_drained(tmp_path, witness, in_flight)
    if kind == "label":
        go_on(tmp_path, witness)
        assert_finished(tmp_path, witness)
        assert_nothing_twice(witness)


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_campaign_whose_ray_dies_says_so_and_leaves(tmp_path, witness, name):
    driver = start(tmp_path, witness)
    wait_for(at_work(tmp_path, "seed", 1), "a starting structure at work")
    processes = descendants(driver)
    next(process for process in processes if process.name() == name).kill()
    assert driver.wait(timeout=120) == 1
    error = f"error: Ray's {name} has died"
    lines = [line for line in (tmp_path / "output.txt").read_text().splitlines() if line.startswith(error)]
    assert [line.endswith("nothing that was computed is lost") for line in lines] == [True]
    assert_no_orphans(processes)
    assert status(tmp_path)["state"] == "FAILED"
    assert rows(tmp_path, "SELECT COUNT(*) FROM tasks WHERE state = 'LEASED'") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_leaves_while_ray_starts_is_told_how_to_go_on(tmp_path, witness, number):
    driver = start(tmp_path, witness)
    found: list[psutil.Process] = []

    def ray_starts() -> bool:
        found[:] = psutil.Process(driver.pid).children(recursive=True)
        return any(process.name() == "gcs_server" for process in found)

    wait_for(ray_starts, "Ray to start")
    os.killpg(driver.pid, number)
    assert driver.wait(timeout=120) == 130
    assert "the same command goes on from here" in (tmp_path / "output.txt").read_text()
    assert_no_orphans(found)
    assert status(tmp_path)["state"] == "STOPPED"


@pytest.mark.parametrize("kind", ["seed", "label"])
def test_a_killed_driver_loses_nothing(tmp_path, witness, kind):
    """What was in flight dies with the driver's own Ray, and is the only thing that is computed again."""
    driver = start(tmp_path, witness)
    wait_for(at_work(tmp_path, kind, 1), f"a {kind} task at work")
    processes = descendants(driver)
    driver.kill()
    driver.wait()
    assert rows(tmp_path, "SELECT state FROM campaigns") == [("RUNNING",)]
    assert status(tmp_path)["abandoned"]
    stopped = nearedge("stop", "tiny", cwd=tmp_path)
    assert "RUNNING (no driver: run the same command to continue)" in stopped.stdout
    assert_no_orphans(processes)
    before, there = len(witness.lines()), stored(tmp_path)
    go_on(tmp_path, witness)
    assert_finished(tmp_path, witness)
    assert there
    assert there.isdisjoint(witness.begun(after=before))
    again = [key for key, times in Counter(witness.begun()).items() if times > 1]
    assert set(again).isdisjoint(there)
    assert all(witness.begun().count(key) == 2 for key in again)


def test_the_same_seed_gives_the_same_campaign(tmp_path):
    """Up to where the timing of several processes decides: the second guided batch."""
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        write_campaign(folder)
        go_on(folder)
        weights = {
            kind: (folder / "runs" / "tiny" / "models" / kind / "000" / "weights.safetensors").read_bytes()
            for kind in ("prior", "surrogate", "potential")
        }
        found.append((facts(folder), weights))
    (first, weights), (second, other_weights) = found
    assert first == second
    for kind, content in weights.items():
        assert content == other_weights[kind], f"the first {kind} differs"


def facts(folder: Path) -> dict[str, list[tuple]]:
    """What must not depend on timing."""
    queries = {
        "starting structures": (
            "SELECT origin, hash FROM campaign_structures JOIN structures ON structures.id = structure_id"
            " WHERE origin IN ('seed', 'seed_path', 'seed_rattled') ORDER BY hash"
        ),
        "energies": (
            "SELECT hash, energy_ev FROM labels JOIN structures ON structures.id = labels.structure_id"
            " JOIN tasks ON tasks.id = labels.task_id WHERE tasks.kind = 'seed' ORDER BY hash"
        ),
        "data sets": "SELECT kind, dataset_hash FROM models WHERE sequence = 0 ORDER BY kind",
        "first requests": "SELECT role, settings_json FROM generations WHERE sequence = 0 ORDER BY role",
        "first raw structures, unguided and guided": (
            "SELECT role, index_in_generation, hash FROM candidates"
            " JOIN generations ON generations.id = generation_id"
            " JOIN structures ON structures.id = raw_structure_id"
            " WHERE generations.sequence = 0 ORDER BY role, index_in_generation"
        ),
    }
    answers = {name: rows(folder, query) for name, query in queries.items()}
    assert all(answers.values()), answers
    roles = {role for role, *_ in answers["first raw structures, unguided and guided"]}
    assert roles == {"baseline", "guided"}
    return answers

"""Two drivers on one campaign, and two campaigns on one database: nothing is computed for the second time."""

import json
import subprocess
import time

import pytest
from sqlalchemy import create_engine, text
from tests.e2e.tiny import SETTINGS, nearedge, write_campaign
from tests.e2e.witness import Witness

pytestmark = pytest.mark.slow

OF_CAMPAIGN = (
    "SELECT label_id, role FROM label_uses JOIN campaigns ON campaigns.id = campaign_id WHERE name = '{}'"
)


def test_two_campaigns_at_the_same_time_share_their_labels_and_a_second_driver_leaves(tmp_path):
    """The second has the seed of the first, and so asks for the same starting structures and the same baseline."""
    witness, database = Witness(tmp_path / "witness"), f"sqlite:///{tmp_path / 'shared.db'}"
    engine = create_engine(database, connect_args={"timeout": 30})
    drivers: list[subprocess.Popen] = []

    def begin(name: str, run_dir: str) -> subprocess.Popen:
        write_campaign(tmp_path / name, name=name, database=database)
        driver = subprocess.Popen(
            witness.command("run", "tiny.yaml", "--dir", str(tmp_path / run_dir)),
            cwd=tmp_path / name,
            env=witness.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        drivers.append(driver)
        return driver

    def ask(query: str) -> list[tuple]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    try:
        first = begin("one", "one-run")
        deadline = time.monotonic() + 300
        while not witness.begun():
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second = begin("two", "two-run")
        same = begin("one", "elsewhere")
        output, _ = same.communicate(timeout=200)
        assert same.returncode == 2, output
        assert "error: another driver is running campaign 'one'" in output
        for driver in (first, second):
            output, _ = driver.communicate(timeout=500)
            assert driver.returncode == 0, output[-2000:]
    finally:
        for driver in drivers:
            driver.kill()
            driver.wait()
    stop = SETTINGS["stop"]
    for name in ("one", "two"):
        told = nearedge("status", name, "--json", "--dir", str(tmp_path / f"{name}-run"), cwd=tmp_path)
        labels = json.loads(told.stdout)["labels"]
        assert (labels["baseline"], labels["guided"]) == (stop["baseline_labels"], stop["labels"])
    shared = set(ask(OF_CAMPAIGN.format("one"))) & set(ask(OF_CAMPAIGN.format("two")))
    roles = [role for _, role in shared]
    assert roles.count("seed") == SETTINGS["seeds"]["count"]
    assert roles.count("baseline") == stop["baseline_labels"]
    assert witness.at_the_same_time() == []
    assert len(witness.begun()) == len(set(witness.begun())) == witness.computed().total()
    assert ask("SELECT id FROM tasks WHERE kind IN ('seed', 'label') AND attempts > 1") == []
    assert ask("SELECT id FROM tasks WHERE state IN ('PENDING', 'LEASED', 'RETRY')") == []
    engine.dispose()

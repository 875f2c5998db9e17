"""A whole campaign that screens with one oracle and confirms with another: xtb, and xtb with a core hole."""

import pytest
from tests.e2e.tiny import SETTINGS, nearedge, rows, status, write_campaign

pytestmark = pytest.mark.slow

STARTS, BEST = 6, 2
LABELS = SETTINGS["stop"]["labels"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """The folder of a finished campaign."""
    folder = tmp_path_factory.mktemp("two-oracles")
    settings = {key: value for key, value in SETTINGS.items() if key != "oracle"}
    settings["screen"] = "xtb"
    settings["confirm"] = {
        "name": "xtb",
        "settings": {"core_hole": "z+1"},
        "best": BEST,
        "starts": STARTS,
    }
    settings["seeds"] = {**SETTINGS["seeds"], "count": STARTS + 1}
    write_campaign(folder, **settings)
    result = nearedge("run", "tiny.yaml", cwd=folder)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return folder


def test_each_oracle_has_its_labels_and_tasks(campaign):
    labels = dict(rows(campaign, "SELECT settings_hash, COUNT(*) FROM labels GROUP BY settings_hash"))
    ((dear,),) = rows(campaign, "SELECT DISTINCT settings_hash FROM confirmed_structures")
    assert len(labels) == 2
    assert labels[dear] == STARTS + BEST
    tries = rows(
        campaign,
        f"SELECT n_atoms, runs, outcome, peak_gib FROM label_attempts WHERE settings_hash = '{dear}'",
    )
    assert {one[:3] for one in tries} == {(8, 9, "done")}
    assert all(0.05 < one[3] < 5 for one in tries)
    roles = "SELECT role, COUNT(*), COUNT(spectral_distance) FROM label_uses GROUP BY role"
    assert ("confirm", STARTS + BEST, STARTS + BEST) in rows(campaign, roles)


def test_no_model_has_seen_the_second_oracle(campaign):
    ((cheap,),) = rows(campaign, "SELECT DISTINCT settings_hash FROM discovered_structures")
    assert rows(campaign, "SELECT DISTINCT settings_hash FROM tasks WHERE kind = 'train'") == [(cheap,)]


def test_status_tells_what_is_confirmed_and_what_a_label_of_each_costs(campaign):
    told = status(campaign)
    found = told["confirm"]
    assert (found["checked"], len(found["structures"])) == (BEST, STARTS + BEST)
    to_beat = min(one["distance"] for one in found["structures"] if one["role"] == "seed")
    for one in found["structures"]:
        assert one["confirmed"] == (one["role"] == "guided" and one["distance"] < to_beat)
    correction = found["correction"]
    assert correction["pairs"] == STARTS + BEST
    assert 0 < correction["error"] < 2 * correction["shifted_error"]  # of so few pairs, each left out in turn
    costs = {one["runs"]: one for one in told["cost"]["predictions"]}
    assert set(costs) == {1, 9}
    assert all(0 < one["seconds"] < one["upper_seconds"] for one in costs.values())
    assert all(0.05 < one["gib"] < one["upper_gib"] for one in costs.values())

"""A whole campaign where there is room for one actor only: the pools take turns, and nobody waits for ever."""

import json

import pytest
from tests.e2e.tiny import SETTINGS, nearedge, status, write_campaign

pytestmark = pytest.mark.slow


def test_a_campaign_with_one_cpu_and_actors_of_one_cpu_reaches_its_end(tmp_path):
    pools = {name: {"cpus": 1} for name in ("generator", "scorer", "labeler", "trainer")}
    write_campaign(tmp_path, pools=pools, ray={"num_cpus": 1})
    result = nearedge("run", "tiny.yaml", cwd=tmp_path, timeout=1500)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert status(tmp_path)["labels"]["guided"] == SETTINGS["stop"]["labels"]
    (path,) = (tmp_path / "runs" / "tiny" / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    sized = next(line["data"] for line in lines if line["message"] == "pools sized")
    assert sized["sizes"] == {"labeler": 1, "trainer": 0, "scorer": 0, "generator": 0}
    assert {line["pool"] for line in lines} == {*pools, "driver"}, "every pool has worked"
    assert not [line for line in lines if line["message"].startswith("actor lost")]

"""The short form of the bench ``chaos``: whatever can be killed is killed, and nothing is lost, repeated or left."""

import json

import pytest
from tests.e2e.tiny import nearedge

from nearedge.bench.chaos.plan import FAULTS, VICTIMS

pytestmark = pytest.mark.slow


def test_a_campaign_survives_everything_at_once(tmp_path):
    result = nearedge("bench", "chaos", "--out", str(tmp_path), "--short", cwd=tmp_path, timeout=1500)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    whole = json.loads((tmp_path / "chaos.json").read_text(encoding="utf-8"))
    rows = {row["what"]: row for row in whole["rows"]}
    killed = [rows[f"kill -9 of a {victim}"]["measured"] for victim in VICTIMS]
    failed = [rows[f"oracle: {fault}"]["measured"] for fault in FAULTS]
    assert min(killed + failed) >= 1
    assert rows["labels lost"]["measured"] == rows["labels computed twice by the ledger"]["measured"] == 0
    assert rows["calculations done again"]["measured"] >= len(FAULTS) - 1
    missed = {what: row["measured"] for what, row in rows.items() if row["passed"] is False}
    assert missed == {}, whole["data"]["output"]
    assert (tmp_path / "chaos.png").stat().st_size > 10_000

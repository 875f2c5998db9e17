"""Programs that are not installed: tests are skipped without them, or fail where they are required."""

import pytest
from tests.programs import REQUIRE_VARIABLE, espresso, needs

Failed, Skipped = pytest.fail.Exception, pytest.skip.Exception


@pytest.mark.parametrize(("value", "outcome"), [("1", Failed), ("0", Skipped), ("", Skipped)])
def test_what_is_not_installed_is_a_failure_where_it_is_required(monkeypatch, value, outcome):
    monkeypatch.setenv(REQUIRE_VARIABLE, value)
    with pytest.raises(outcome, match="no_such_module"):
        needs("no_such_module")
    with pytest.raises(outcome, match="no-such-pw"):
        espresso({"run": {"pw": ["no-such-pw"]}})


def test_what_is_installed_is_used(monkeypatch):
    monkeypatch.setenv(REQUIRE_VARIABLE, "1")
    needs("pytest")

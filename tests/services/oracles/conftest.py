"""Tests of oracles leave nothing in the user's folder of unfinished labels."""

import pytest

from nearedge_services.oracles.leftovers import WORK_VARIABLE


@pytest.fixture(autouse=True, scope="session")
def work_elsewhere(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORK_VARIABLE, str(tmp_path_factory.mktemp("work")))
        yield

"""The identity of labels lasts: in other processes, and in versions to come."""

import os
import subprocess
import sys

import pytest

from nearedge_services.oracles.espresso import EspressoOracle
from nearedge_services.oracles.feff import FeffOracle
from nearedge_services.oracles.gpaw import GpawOracle
from nearedge_services.oracles.xtb import XtbOracle

DEFAULTS = {
    EspressoOracle: "87b689363d642b7a",
    FeffOracle: "9a84bf534f1088d3",
    GpawOracle: "0aa2b248875d1951",
    XtbOracle: "a42a0a761e6068bb",
}
"""How the hashes of the defaults begin. A change means that labels made before are calculated again: where the labels
would be the same, keep the old hash as `XtbOracle` does; where they would not, that is what `RECIPE` is for.
"""


@pytest.mark.parametrize("oracle", DEFAULTS, ids=lambda oracle: oracle.name)
def test_labels_made_before_are_still_known(oracle):
    assert oracle().settings_hash.startswith(DEFAULTS[oracle])


def test_another_process_has_the_same_hashes():
    lines = [f"from {oracle.__module__} import {oracle.__name__}" for oracle in DEFAULTS]
    lines.append(f"print(*(one().settings_hash for one in ({', '.join(one.__name__ for one in DEFAULTS)})))")
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [oracle().settings_hash for oracle in DEFAULTS]

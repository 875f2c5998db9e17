"""The example's target is what its documented network gives."""

from pathlib import Path

import numpy as np
import pytest

from nearedge_services.oracles.factory import make_oracle
from nearedge_services.spectra.distance import cell_mean
from nearedge_services.spectra.reading import read_spectrum
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.extxyz import read_structures

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_target_is_the_spectrum_of_its_network():
    (truth,) = read_structures(EXAMPLES / "quickstart_truth.extxyz")
    assert density_g_cm3(truth) == pytest.approx(3.0, abs=1e-6)
    oracle = make_oracle("xtb", {})
    expected = cell_mean(oracle.label(truth).xanes, truth.numbers, "C", oracle.grid)
    target = read_spectrum(EXAMPLES / "quickstart_target.csv")
    np.testing.assert_allclose(target.energies_ev, oracle.grid.energies, atol=1e-9)
    np.testing.assert_allclose(target.intensity, expected, atol=2e-6)

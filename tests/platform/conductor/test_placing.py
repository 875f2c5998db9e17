"""Placing the target on the energies of the second oracle."""

import numpy as np
import pytest
from tests.platform.campaign_files import ENERGIES_EV, intensity

from nearedge.conductor.placing import place_target, spread_over
from nearedge.config import CampaignConfig
from nearedge.fidelity import ConfirmConfig
from nearedge_db.errors import UserError
from nearedge_services.spectra.grid import EnergyGrid
from nearedge_services.spectra.spectrum import Spectrum

CONFIG = CampaignConfig.model_validate({"name": "p", "target": {"file": "t.csv"}})
GRID = EnergyGrid()


def theory(shift_ev: float) -> list[np.ndarray]:
    """Spectra like the target's, with their edge that much higher and other second peaks."""
    bumps = [0.02 * k * np.exp(-0.5 * ((ENERGIES_EV - 18.0) / 2.0) ** 2) for k in range(5)]
    return [intensity(ENERGIES_EV - shift_ev) + bump for bump in bumps]


@pytest.mark.parametrize("shift_ev", [-1.0, 0.0, 2.0, 3.3])
def test_the_shift_is_found(shift_ev):
    target = place_target(CONFIG, Spectrum(ENERGIES_EV, intensity()), GRID, theory(shift_ev), "C")
    assert target.alignment.shift_ev == pytest.approx(-shift_ev, abs=0.15)
    assert float(target.distance(theory(shift_ev)[0])) < 2e-3


def test_a_spectrum_that_has_the_energies_is_not_shifted():
    config = CONFIG.model_copy(update={"confirm": ConfirmConfig(name="gpaw", align=False)})
    target = place_target(config, Spectrum(ENERGIES_EV, intensity()), GRID, theory(2.0), "C")
    assert target.alignment is None
    assert float(target.distance(intensity())) < 1e-6
    assert float(target.distance(theory(2.0)[0])) > 0.01


def test_it_keeps_the_edge_inside_of_its_window():
    target = place_target(CONFIG, Spectrum(ENERGIES_EV, intensity()), GRID, theory(1.0), "C")
    assert target.window_ev[0] == GRID.start_ev
    assert target.window_ev[1] >= 20.0


@pytest.mark.parametrize(
    ("spectra", "high", "words"), [(2, 28.0, "too few starting structures"), (5, 3.0, "too short")]
)
def test_what_cannot_be_placed_is_refused(spectra, high, words):
    inside = np.less_equal(ENERGIES_EV, high)
    spectrum = Spectrum(ENERGIES_EV[inside], intensity()[inside])
    with pytest.raises(UserError, match=words):
        place_target(CONFIG, spectrum, GRID, theory(0.0)[:spectra], "C")


def test_starting_structures_are_the_best_and_others_over_the_densities():
    densities = {number: 1.5 + 0.1 * number for number in range(20)}
    chosen = spread_over(densities, 7, 6)
    assert chosen[0] == 7
    assert len(chosen) == len(set(chosen)) == 6
    assert {0, 19} <= set(chosen)
    assert spread_over({1: 2.0, 2: 3.0}, 2, 6) == [2, 1]
    assert spread_over({1: 2.0}, 1, 6) == [1]

"""An ensemble beside its reference."""

import json

import numpy as np
import pytest
from ase import Atoms
from tests.services.structures.crystals import (
    diamond,
    graphite,
    networks,
    random_gas,
    rattled,
    silicon_carbide,
)

from nearedge_db.errors import UserError
from nearedge_services.structures.composition import density_g_cm3
from nearedge_services.structures.evaluate import evaluate


def near(density: float) -> list[Atoms]:
    return [atoms for atoms in networks() if abs(density_g_cm3(atoms) - density) < 0.01]


def test_a_set_beside_itself_is_perfect_and_not_novel():
    result = evaluate(near(2.0), near(2.0))
    overall = result["overall"]
    assert overall["g_r_rmse"] == overall["bond_angle_rmse"] == 0
    assert overall["coordination"]["generated"] == overall["coordination"]["reference"]
    assert overall["g_r_rmse_within_reference"] > 0.1
    assert result["novelty"]["share"] == 0
    assert result["validity"]["share"] == {"generated": 1.0, "reference": 1.0}
    assert json.loads(json.dumps(result)) == result


def test_thermal_copies_are_not_novel_and_independent_networks_are():
    first, second = near(3.0)
    assert evaluate([rattled(first, 0.05, 1)], [first])["novelty"]["share"] == 0.0
    assert evaluate([second], [first])["novelty"]["share"] == 1.0


def test_a_random_gas_is_found_out():
    gas = [random_gas(64, 7.5, seed) for seed in range(2)]
    result = evaluate(gas, near(3.0))
    assert result["validity"]["share"] == {"generated": 0.0, "reference": 1.0}
    assert result["overall"]["g_r_rmse"] > 2 * result["overall"]["g_r_rmse_within_reference"]


def test_like_is_compared_with_like():
    frames = near(1.6) + near(3.0)
    groups = evaluate([*near(3.0), near(1.6)[0]], frames)["groups"]
    assert [round(group["density_g_cm3"]["reference"], 2) for group in groups] == [1.6, 3.0]
    assert [group["counts"] for group in groups] == [
        {"generated": 1, "reference": 2},
        {"generated": 2, "reference": 2},
    ]
    assert evaluate(near(2.25), frames)["groups"] == []


def test_crystals():
    result = evaluate([diamond() * 2], [graphite() * (3, 3, 2)])["overall"]
    assert result["rings"]["generated"]["6"] == pytest.approx(2.0)
    assert result["rings"]["reference"]["6"] == pytest.approx(0.5)
    assert result["bond_angle_mean_deg"]["generated"] == pytest.approx(109.47, abs=0.01)
    assert result["g_r_rmse_within_reference"] is None


def test_structures_without_bonds_have_no_angles():
    lone = Atoms("C", cell=[6, 6, 6], pbc=True)
    result = evaluate([lone], [diamond()])
    assert result["overall"]["bond_angle_rmse"] is None
    assert np.isfinite(result["overall"]["g_r_rmse"])


def test_nothing_to_compare():
    with pytest.raises(UserError, match="no generated structure"):
        evaluate([], [diamond()])
    silicon = silicon_carbide()
    silicon.numbers[:] = 14
    with pytest.raises(UserError, match="no element in common"):
        evaluate([silicon], [diamond()])
